"""Server-sent events, with their bytes split anywhere."""

import asyncio
import itertools

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from boxsched import errors
from boxsched.client import Event
from boxsched.client.http import LONGEST_PAUSE_SECONDS, ServiceLine
from boxsched.client.stream import EventReader, EventStream

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


def test_a_stream_is_read_in_one_piece():
    assert read([STREAM]) == EVENTS


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_a_stream_is_read_in_any_pieces(cuts):
    edges = [0, *sorted(cuts), len(STREAM)]
    assert read(STREAM[a:b] for a, b in itertools.pairwise(edges)) == EVENTS


def test_a_stream_is_read_byte_by_byte():
    assert read(STREAM[n : n + 1] for n in range(len(STREAM))) == EVENTS


def test_a_greeting_contains_the_start_of_the_stream():
    reader = EventReader()
    assert [*reader.feed(b"retry: 2000\n: connected\nid: 1.4.2+3.7.1\n")] == []
    assert reader.greeting is None
    [event] = reader.feed(b'\nid: 1.4.2+3.8.1\ndata: {"type": "x"}\n\n')
    assert (reader.greeting, event.id) == ("1.4.2+3.7.1", "1.4.2+3.8.1")


def test_an_event_is_not_a_greeting():
    reader = EventReader()
    assert len([*reader.feed(b'id: 1.8.1\ndata: {"type": "x"}\n\nid: 1.9.1\n\n')]) == 1
    assert reader.greeting == ""


def test_an_event_that_is_not_json_is_reported():
    with pytest.raises(errors.Malformed):
        read([b"data: <html>\n\n"])


def test_an_unterminated_message_is_not_buffered_for_ever():
    with pytest.raises(errors.TooLarge):
        read(b"data: " + b"x" * (1 << 20) for _ in range(5))


def test_a_change_names_its_user():
    assert EVENTS[0].workload == "w1"
    assert Event("1.1.1", "boxes.changed", {"total": 4}).workload is None


def plays(*chunks):
    """A stream with these parts, which then ends."""

    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        return response

    return answer


GREETING = b"retry: 2000\n: connected\nid: 1.4.2+3.7.1\n\n"


async def test_a_reader_without_events_resumes_where_the_stream_started(service):
    service.part = [plays(GREETING), plays(GREETING, b'id: 1.4.2+3.8.1\ndata: {"a": 1}\n\n')]
    async with ServiceLine(service.url, "the-token", patience=5) as line:
        stream = EventStream(line)
        await stream.open()
        assert stream.after == "1.4.2+3.7.1"
        async for event in stream:
            assert event.id == stream.after == "1.4.2+3.8.1"
            break
    assert [sent.get("Last-Event-ID") for _, _, sent, _ in service.requests] == [
        None,
        "1.4.2+3.7.1",
    ]


async def test_an_event_that_came_with_the_greeting_and_was_not_read_comes_again(service):
    service.part = [plays(GREETING + b'id: 1.5.1+3.7.1\ndata: {"a": 1}\n\n')]
    async with ServiceLine(service.url, "the-token", patience=5) as line:
        stream = EventStream(line)
        await stream.open()
        assert stream.after == "1.4.2+3.7.1"
        await stream.close()


async def test_a_stream_that_ends_at_once_is_requested_less_and_less_often(service):
    pauses, enough = [], asyncio.Event()

    async def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 9:
            enough.set()
            await asyncio.Event().wait()

    service.part = [plays(GREETING)]
    async with ServiceLine(service.url, "the-token", patience=5, pause=pause) as line:
        reading = asyncio.ensure_future(anext(aiter(EventStream(line))))
        async with asyncio.timeout(20):
            await enough.wait()
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_SECONDS
