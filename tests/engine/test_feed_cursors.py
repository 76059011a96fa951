"""Cursors of the feed: their text, their order, and their limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.feed import EventCursor
from tests.engine.event_history import (
    FROM_THE_BEGINNING,
)

# --- Cursors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "", "1.2", "1.2.x", "-1.2.3", "1.2.3.4", "9" * 70, "1.2.²", "1.2." + "9" * 19, "1.2.3+",
        "+1.2.3", "1.2.3++2.1.1", "2.1.1+1.2.3", "1.2.3+1.2.4", "1.2.3 2.1.1", "1.2.3\n", "01.2.3",
        "+".join(f"{shard}.123456.12" for shard in range(1, 1_024)),
    ],
)  # fmt: skip
def test_unusual_cursors_are_accepted_or_reported(text: str) -> None:
    assert EventCursor.parse(text) is None


def test_a_cursor_has_at_most_8000_characters() -> None:
    """That many characters fit into an HTTP header."""
    marks = [f"{shard}.{10**10}.1" for shard in range(100, 544)]  # 18 characters with their "+"
    longest = "+".join([*marks, "1000.1.1"])
    assert len(longest) == 8_000
    assert EventCursor.parse(longest) is not None
    assert EventCursor.parse(f"{longest}0") is None


def test_a_single_shards_cursor_is_an_events_id() -> None:
    assert str(EventCursor({1: (22, 3)})) == "1.22.3"
    assert EventCursor.parse("1.22.3") == EventCursor({1: (22, 3)})
    assert str(FROM_THE_BEGINNING) == "1.0.0"


_NUMBERS = st.integers(1, 10**6)


@given(st.dictionaries(_NUMBERS, st.tuples(_NUMBERS, _NUMBERS), min_size=1, max_size=50))
def test_a_cursor_reads_as_it_is_written(places: dict[int, tuple[int, int]]) -> None:
    assert EventCursor.parse(str(EventCursor(places))) == EventCursor(places)


def test_two_hundred_and_fifty_six_shards_fit_into_a_header() -> None:
    cursor = EventCursor(dict.fromkeys(range(1, 257), (10**12, 10**6)))
    assert EventCursor.parse(str(cursor)) == cursor
