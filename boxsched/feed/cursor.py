"""The place of a reader in the history: one event in each shard."""

import re
from collections.abc import Mapping

import attrs

Place = tuple[int, int]  # (batch, n) of an event within its shard

BEGINNING: Place = (0, 0)  # before a shard's first event
TEXT_AT_MOST = 8_000  # characters; an HTTP header has 8,190 at most

_MARK = r"(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})\.(0|[1-9][0-9]{0,17})"
_TEXT = re.compile(rf"{_MARK}(?:\+{_MARK})*")
_MARKS = re.compile(_MARK)


def mark(shard: int, place: Place) -> str:
    """Return one shard's part of a cursor's text; alone, it is an event's id."""
    return f"{shard}.{place[0]}.{place[1]}"


@attrs.frozen
class EventCursor:
    """The last event that a reader has received in each shard; a new shard starts at its first
    event.

    Its text is the SSE id: "1.45.2", or with several shards "1.45.2+3.7.1".
    """

    places: Mapping[int, Place]

    def __str__(self) -> str:
        marks = [mark(*one) for one in sorted(self.places.items()) if one[1] > BEGINNING]
        return "+".join(marks) or mark(1, BEGINNING)

    @staticmethod
    def parse(text: str) -> "EventCursor | None":
        """Return the cursor of a text, or None if it is not shard.batch.n, joined by ``+``."""
        if len(text) > TEXT_AT_MOST or not _TEXT.fullmatch(text):
            return None
        marks = [(int(s), (int(b), int(n))) for s, b, n in _MARKS.findall(text)]
        shards = [shard for shard, _ in marks]
        return EventCursor(dict(marks)) if shards == sorted(set(shards)) else None
