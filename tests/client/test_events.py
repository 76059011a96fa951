"""Server-sent events, however their bytes arrive."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched import errors
from boxsched.client import Event
from boxsched.client.stream import EventReader

STREAM = (
    b"retry: 2000\n: connected\n\n"
    b'id: 1.7.1\nevent: workload.started\ndata: {"workload": "w1", "message": "gr\xc3\xbcn"}\n\n'
    b": still here\n\n"
    b'id:1.7.2\r\nevent:job.started\r\ndata:{"workload":"w1",\r\ndata:"job":"w1-1"}\r\n\r\n'
    b"event: without data\n\n"
    b'data: {"no": "id of its own"}\n\n'
    b'id: 1.8.1\ndata: {"never": "ended"}\n'
)
EVENTS = [
    Event("1.7.1", "workload.started", {"workload": "w1", "message": "grün"}),
    Event("1.7.2", "job.started", {"workload": "w1", "job": "w1-1"}),
    Event("1.7.2", "", {"no": "id of its own"}),
]


def read(chunks):
    reader = EventReader()
    return [event for chunk in chunks for event in reader.feed(chunk)]


def test_a_stream_in_one_piece():
    assert read([STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_in_any_pieces(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    assert read(STREAM[a:b] for a, b in itertools.pairwise(edges)) == EVENTS


def test_byte_by_byte():
    assert read(STREAM[n : n + 1] for n in range(len(STREAM))) == EVENTS


def test_an_event_that_is_not_json():
    with pytest.raises(errors.Malformed):
        read([b"data: <html>\n\n"])


def test_a_message_without_an_end_is_not_kept_for_ever():
    with pytest.raises(errors.TooLarge):
        read(b"data: " + b"x" * (1 << 20) for _ in range(5))


def test_whose_change_it_is():
    assert EVENTS[0].workload == "w1"
    assert Event("1.1.1", "boxes.changed", {"total": 4}).workload is None
