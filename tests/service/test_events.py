"""Server-sent events: every change in order and without a gap, also after a reconnect."""

import asyncio
import socket
from collections.abc import AsyncIterator

import msgspec
import pytest

from boxsched.api.http import deadlines
from boxsched.api.resources import events as events_module
from boxsched.client.records import Event
from boxsched.client.stream import EventReader
from tests.service.running_service import API, RunningService, job


async def read(
    service: RunningService, count: int, after: str | None = None, query: str = ""
) -> list[Event]:
    """Return the next events as a client receives them."""
    found: list[Event] = []
    async for event in stream(service, after, query):
        found.append(event)
        if len(found) == count:
            break
    return found


async def stream(
    service: RunningService, after: str | None = None, query: str = ""
) -> AsyncIterator[Event]:
    headers = {"Authorization": f"Bearer {service.token}"}
    if after is not None:
        headers["Last-Event-ID"] = after
    reader = EventReader()
    async with (
        asyncio.timeout(20),
        service.client.get(service.url + API + "/events" + query, headers=headers) as response,
    ):
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/event-stream")
        async for chunk in response.content.iter_any():
            for event in reader.feed(chunk):
                yield event


async def stored(service: RunningService) -> list[str]:
    return [
        f"{event.shard}.{event.batch}.{event.n}"
        for event in await service.node.store.events_after(1, 0, 0, 100_000)
    ]


async def test_a_build_causes_its_events_in_order(service: RunningService) -> None:
    await service.project("web")
    reading = asyncio.create_task(read(service, 6))
    await service.call("GET", "/healthz")
    while not service.node.feed.readers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    made = await service.build()
    seen = await asyncio.wait_for(reading, 20)
    mine = [event for event in seen if event.workload == made["id"]]
    assert [event.type for event in mine][:3] == [
        "workload.registered",
        "workload.queued",
        "workload.started",
    ]
    for event in seen:
        assert event.data["type"] == event.type
        assert event.data["at"].endswith("Z")
    assert mine[0].data["branch"] == "main"


async def test_reading_from_the_beginning_returns_all_stored_events(
    service: RunningService,
) -> None:
    await service.project("web")
    for n in range(20):
        await service.finished((await service.build(branch=f"b{n}"))["id"])
    ids = await stored(service)
    assert len(ids) > 100
    assert [event.id for event in await read(service, len(ids), "1.0.0")] == ids
    assert [event.id for event in await read(service, 5, None, "?after=1.0.0")] == ids[:5]


async def test_a_reader_that_reconnects_misses_no_event_and_sees_none_twice(
    service: RunningService,
) -> None:
    """A reader disconnects again and again while builds run."""
    await service.project("web")

    async def load() -> None:
        for n in range(60):
            await service.build(branch=f"b{n % 7}")

    loading = asyncio.create_task(load())
    seen: list[str] = []
    after = "1.0.0"
    for size in (1, 2, 3, 5, 8, 13, 21, 34):
        got = await read(service, size, after)
        seen += [event.id for event in got]
        after = seen[-1]
    await loading
    ids = await stored(service)
    assert seen == ids[: len(seen)]


async def test_many_readers_under_load_receive_the_same_events(service: RunningService) -> None:
    await service.project("web")
    readers = [asyncio.create_task(read(service, 300, "1.0.0")) for _ in range(8)]
    for n in range(80):
        await service.build(branch=f"b{n % 9}")
    lists = [[event.id for event in await one] for one in readers]
    ids = await stored(service)
    assert all(one == ids[:300] for one in lists)


@pytest.mark.parametrize(
    "id_",
    [
        "x",
        "1",
        "1.2",
        "1.2.3.4",
        "-1.0.0",
        "2.0.0",
        "1.999999.1",
        "1.0." + "9" * 70,
        "\u0661.0.0",
        "1.0.0+",
        "1.0.0+1.0.0",
        "1.0.0+2.0.0",
        "+".join(["1.0.0"] * 1_300),
    ],
)
async def test_invalid_event_ids_are_refused(service: RunningService, id_: str) -> None:
    for query, headers, field in (
        ("", {"Last-Event-ID": id_}, "Last-Event-ID"),
        (f"?after={id_}", {}, "after"),
    ):
        answer = await service.call("GET", f"{API}/events{query}", headers=headers)
        assert (answer.status, answer.error["field"]) == (422, field)


async def test_a_quiet_stream_sends_comments(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "KEEPALIVE_SECONDS", 0.05)
    async with service.client.get(
        service.url + API + "/events", headers={"Authorization": f"Bearer {service.token}"}
    ) as response:
        lines = [await response.content.readline() for _ in range(8)]
    assert lines[:2] == [b"retry: 2000\n", b": connected\n"]
    assert lines[4] == lines[6] == b": still here\n"


async def test_a_reader_without_events_knows_where_the_stream_started(
    service: RunningService,
) -> None:
    """Otherwise it would miss what happens between two connections."""
    await service.project("web")
    headers = {"Authorization": f"Bearer {service.token}"}
    async with service.client.get(service.url + API + "/events", headers=headers) as response:
        greeting = (await response.content.readuntil(b"\n\n")).decode()
    place = greeting.partition("id: ")[2].strip()
    await service.build()
    [first] = await read(service, 1, place)
    ids = ["1.0.0", *await stored(service)]
    assert first.id == ids[ids.index(place) + 1]


async def test_the_streams_end_when_the_node_stops(service: RunningService) -> None:
    async with service.client.get(
        service.url + API + "/events", headers={"Authorization": f"Bearer {service.token}"}
    ) as response:
        await response.content.readline()
        service.node.feed.close()
        await asyncio.wait_for(response.content.read(), 10)
    answer = await service.call("GET", f"{API}/events")
    # a reader then connects to another node
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_only_a_client_that_does_not_read_is_dropped(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadlines, "WRITE_SECONDS", 0.2)
    await service.project("web")
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    raw.connect(("127.0.0.1", service.port))
    _, deaf = await asyncio.open_connection(sock=raw, limit=1_024)
    deaf.write(
        f"GET {API}/events HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {service.token}\r\n\r\n".encode()
    )
    while not service.node.feed.readers:  # noqa: ASYNC110
        await asyncio.sleep(0)
    for n in range(200):  # about a megabyte of events
        await service.build(
            branch=f"b{n}", message="m" * 500, jobs=[job("j" * 200), job("k" * 200)]
        )
    async with asyncio.timeout(20):
        while service.node.feed.readers:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    deaf.close()
    assert len(await read(service, 50, "1.0.0")) == 50


def test_an_event_is_one_message() -> None:
    from boxsched.protocol.batches import StoredEvent

    data = msgspec.json.encode({"type": "x", "message": "a\nb\r\n\nid: 1.1.1\ndata: z\u2028"})
    stored = StoredEvent(1, 2, 3, "workload.queued", data)
    [event] = EventReader().feed(events_module.message(stored, "1.2.3+4.5.6"))
    assert (event.id, event.type) == ("1.2.3+4.5.6", "workload.queued")
    assert event.data["message"] == "a\nb\r\n\nid: 1.1.1\ndata: z\u2028"
