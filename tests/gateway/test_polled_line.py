"""A worker's connection over separate requests: order, repetition, limits and its end."""

import asyncio
from typing import Any

import pytest
from aiohttp import WSCloseCode

from boxsched.errors import Conflict, NotFound, TooMany
from boxsched.gateway import long_polls as module
from boxsched.gateway.figures import Times
from boxsched.gateway.long_polls import (
    MAX_REQUESTS,
    MAX_UNREAD_BYTES,
    MAX_WAITING_BYTES,
    Elsewhere,
    Ended,
    LongPolls,
    PolledLine,
)
from boxsched.gateway.received import ProtocolViolation
from boxsched.gateway.worker_line import Slow
from boxsched.protocol.wire import MAX_WORKER_MESSAGE_BYTES
from tests.gateway.fakes import TOKEN

TIMES = Times(write=0.01, hang_up=0.01, silence=3_600.0)


@pytest.fixture
async def line(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.01)
    made = PolledLine("192.0.2.7", "token-1", TIMES)
    yield made
    made.close()


async def soon(*works: Any) -> list[Any]:
    async with asyncio.timeout(20):
        return await asyncio.gather(*works)


# --- From the worker ------------------------------------------------------------------------


async def test_messages_arrive_in_order_and_a_repeated_request_changes_nothing(
    line: PolledLine,
) -> None:
    await line.put(1, ["a", "b"])
    await line.put(1, ["a", "b"])
    await line.put(2, ["c"])
    assert [await line.receive() for _ in range(3)] == ["a", "b", "c"]
    for wrong in (1, 4):
        with pytest.raises(Conflict, match="the next number is 3"):
            await line.put(wrong, ["x"])
    text, _ = await soon(line.receive(), line.put(3, ["d"]))
    assert text == "d", "it is waited for"


async def test_a_node_that_reads_slowly_takes_no_more_for_now(line: PolledLine) -> None:
    large = "x" * (MAX_WAITING_BYTES - 1)
    await line.put(1, [large])
    await line.put(2, ["y"])
    with pytest.raises(TooMany):
        await line.put(3, ["z"])
    line._received.popleft()
    line._received_bytes -= len(large)
    await line.put(3, ["z"])
    assert [await line.receive(), await line.receive()] == ["y", "z"]


async def test_a_message_of_any_size_fits_alone_and_is_refused_when_it_is_read(
    line: PolledLine,
) -> None:
    await line.put(1, ["x" * MAX_WORKER_MESSAGE_BYTES])
    assert len(await line.receive() or "") == MAX_WORKER_MESSAGE_BYTES
    await line.put(2, ["x" * (MAX_WAITING_BYTES + 1)])
    with pytest.raises(ProtocolViolation) as caught:
        await line.receive()
    assert caught.value.reason == "too_large"


async def test_of_two_equal_requests_one_counts(
    line: PolledLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS", 20.0)
    line._received.append("x")
    line._received_bytes = MAX_WAITING_BYTES

    async def read() -> None:
        await asyncio.sleep(0)
        await line.receive()
        line._received_bytes = 0

    await soon(line.put(1, ["a"]), line.put(1, ["a"]), read())
    assert [*line._received] == ["a"]


async def test_a_connection_has_a_limit_of_requests_that_wait(
    line: PolledLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each may bring a body of 1 MiB, and is held for seconds."""
    monkeypatch.setattr(module, "HOLD_SECONDS", 20.0)
    line._received.append("x")
    line._received_bytes = MAX_WAITING_BYTES
    waiting = [asyncio.create_task(line.put(1, ["a"])) for _ in range(MAX_REQUESTS)]
    await asyncio.sleep(0)
    for refused in (line.put(1, ["a"]), line.take(0)):
        with pytest.raises(TooMany):
            await soon(refused)
    line.lose()
    for task in waiting:
        with pytest.raises(Ended):
            await soon(task)
    assert line._asking == 0


# --- To the worker --------------------------------------------------------------------------


async def test_what_the_worker_has_is_forgotten_and_the_rest_is_repeated(line: PolledLine) -> None:
    await line.send([b"a", b"b", b"c"])
    assert await line.take(0) == [b"a", b"b", b"c"]
    assert await line.take(1) == [b"b", b"c"]
    assert await line.take(1) == [b"b", b"c"]
    for wrong in (0, 4):
        with pytest.raises(Conflict, match="must be 1 to 3"):
            await line.take(wrong)
    assert await line.take(3) == [], "none comes soon"
    taken, _ = await soon(line.take(3), line.send([b"d"]))
    assert taken == [b"d"]


async def test_an_answer_has_a_limit_but_at_least_one_message(
    line: PolledLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 4)
    await line.send([b"aa", b"bb", b"c", b"ddddd"])
    assert await line.take(0) == [b"aa", b"bb"]
    assert await line.take(2) == [b"c"]
    assert await line.take(3) == [b"ddddd"]


async def test_a_sender_waits_for_a_worker_that_asks_for_nothing_and_gives_up(
    line: PolledLine,
) -> None:
    await line.send([b"x" * MAX_UNREAD_BYTES])
    with pytest.raises(Slow, match=r"read nothing for 0\.01 s"):
        await line.send([b"y"])
    assert await line.take(1) == [b"y"]
    line._times = Times(write=20.0, hang_up=0.01)
    await soon(line.send([b"z" * MAX_UNREAD_BYTES]), line.take(2))


# --- The end --------------------------------------------------------------------------------


async def test_the_worker_is_told_why_the_node_ends_it(line: PolledLine) -> None:
    assert not line.gone
    await line.send([b"last"])
    line._times = Times(hang_up=20.0)
    ending = asyncio.create_task(line.hang_up(WSCloseCode.GOING_AWAY, "bye"))
    await asyncio.sleep(0)
    assert line.gone
    assert await line.take(0) == [b"last"], "first what was sent before"
    assert not ending.done()
    with pytest.raises(Ended, match="1001 bye"):
        await line.take(1)
    await soon(ending)
    await line.hang_up(WSCloseCode.OK, "another")
    with pytest.raises(Ended, match="1001 bye"):
        await line.put(1, ["x"])
    assert await line.receive() is None
    with pytest.raises(ConnectionResetError):
        await line.send([b"x"])


async def test_a_node_does_not_wait_for_a_worker_that_asks_for_nothing(line: PolledLine) -> None:
    await soon(line.hang_up(WSCloseCode.OK, "bye"))
    line._times = Times(hang_up=3_600.0)
    line.lose()
    await soon(line.hang_up(WSCloseCode.OK, "bye"))


async def test_a_cut_connection_says_no_more(line: PolledLine) -> None:
    await line.send([b"x"])
    line.cut()
    assert line.gone and not line.lost
    with pytest.raises(Ended, match="1006 cut"):
        await line.take(0)


@pytest.mark.parametrize("work", ["receive", "take", "put"])
async def test_a_silent_worker_is_lost_and_whatever_waits_ends(
    line: PolledLine, work: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS", 20.0)
    line._received_bytes = MAX_WAITING_BYTES
    if work == "put":
        line._received.append("x")
    works = {
        "receive": line.receive,
        "take": lambda: line.take(0),
        "put": lambda: line.put(1, ["y"]),
    }
    task = asyncio.create_task(works[work]())  # type: ignore[operator]
    await asyncio.sleep(0)
    line.lose()
    if work == "receive":
        assert (await soon(task)) == [None]
    else:
        with pytest.raises(Ended, match="1006 silent"):
            await soon(task)
    assert line.gone and line.lost


async def test_only_time_without_any_request_is_silence() -> None:
    line = PolledLine("", "t", Times(silence=50.0))
    first = line._patience
    assert first is not None
    with line._visited():
        assert first.cancelled() and line._patience is None
        with line._visited():
            pass
        assert line._patience is None, "another request is still here"
    again: Any = line._patience
    assert again is not None
    assert again.when() == pytest.approx(asyncio.get_running_loop().time() + 50.0, abs=20)
    line.close()
    assert again.cancelled() and line._patience is None
    line.close()
    line.lose()
    with line._visited():
        pass
    assert line._patience is None, "it is over"


# --- The connections of a node ----------------------------------------------------------------


class Served:
    def __init__(self) -> None:
        self.lines: list[PolledLine] = []
        self.end = asyncio.Event()
        self.error: Exception | None = None

    async def serve(self, line: PolledLine, token: Any) -> None:
        assert token is TOKEN
        self.lines.append(line)
        await self.end.wait()
        if self.error is not None:
            raise self.error


async def test_a_connection_is_found_by_its_id_and_token_while_it_is_served() -> None:
    served = Served()
    polls = LongPolls("node-1", served.serve, TIMES)
    one, two = polls.open("192.0.2.7", TOKEN), polls.open("192.0.2.8", TOKEN)
    assert one != two and one.startswith("node-1.")
    await asyncio.sleep(0)
    line = polls.find(one, TOKEN)
    assert line is served.lines[0] and line.address == "192.0.2.7"
    another: Any = type("Another", (), {"id": "token-2"})
    for wrong, token in ((one, another), ("node-1." + "0" * 32, TOKEN), ("odd", TOKEN)):
        with pytest.raises(NotFound):
            polls.find(wrong, token)
    with pytest.raises(Elsewhere):
        polls.find("node-2." + "0" * 32, TOKEN)
    line.lose()
    with pytest.raises(NotFound):
        polls.find(one, TOKEN)
    served.end.set()
    await soon(*polls._tasks)
    with pytest.raises(NotFound):
        polls.find(two, TOKEN)
    assert all(line.gone and line._patience is None for line in served.lines)


async def test_a_node_has_a_limit_of_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_CONNECTIONS", 2)
    served = Served()
    polls = LongPolls("node-1", served.serve, TIMES)
    for _ in range(2):
        polls.open("", TOKEN)
    with pytest.raises(TooMany):
        polls.open("", TOKEN)
    served.end.set()
    await soon(*polls._tasks)
    polls.open("", TOKEN)
    await soon(*polls._tasks)


async def test_a_connection_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    served = Served()
    served.error = RuntimeError("odd")
    served.end.set()
    polls = LongPolls("node-1", served.serve, TIMES)
    polls.open("", TOKEN)
    await asyncio.wait(set(polls._tasks))
    await asyncio.sleep(0)
    assert "the connection of a polling worker failed" in caplog.text
    assert polls._tasks == set()
