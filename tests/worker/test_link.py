"""A worker's side of one connection, over a fake socket."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import msgspec
import pytest
from aiohttp import WSCloseCode, WSMessage, WSMsgType

from boxsched.errors import StoreAway
from boxsched.protocol import wire
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.protocol.timing import heartbeat_seconds
from boxsched.worker.remote.link import MAX_UNANSWERED_BEATS, Link, Lost, RefusedByNode
from boxsched.worker.remote.pace import Pace

HELLO = wire.Hello(wire.VERSION, "own w", "w", ("default",), "", "")
WELCOME = wire.Welcome(7, "cluster", 60.0, fixes_commits=True)
QUIET = Pace(beat=3_600.0)  # no heartbeat is sent


class LongestWaits(random.Random):
    """Not random: every random pause has its longest value."""

    def random(self) -> float:
        return 1.0


class Socket:
    """``says`` makes the node send a message; ``sent`` is what the worker sent."""

    def __init__(self) -> None:
        self.sent: list[wire.FromWorker] = []
        self.news = asyncio.Condition()
        self.close_code: int | None = None
        self.broken: ConnectionError | None = None
        self._incoming: asyncio.Queue[WSMessage] = asyncio.Queue()

    async def send_frame(self, text: bytes, kind: WSMsgType) -> None:
        assert kind is WSMsgType.TEXT
        if self.broken is not None:
            raise self.broken
        async with self.news:
            self.sent.append(wire.from_worker.decode(text))
            self.news.notify_all()

    async def receive(self) -> WSMessage:
        return await self._incoming.get()

    def says(self, *messages: wire.FromNode | bytes) -> None:
        for one in messages:
            data = one if isinstance(one, bytes) else wire.encode(one)
            self._incoming.put_nowait(cast(Any, WSMessage)(WSMsgType.TEXT, data, None))

    def ends(self, kind: WSMsgType, data: object = None, reason: str | None = None) -> None:
        self._incoming.put_nowait(cast(Any, WSMessage)(kind, data, reason))

    async def until(self, count: int) -> list[wire.FromWorker]:
        async with asyncio.timeout(20), self.news:
            await self.news.wait_for(lambda: len(self.sent) >= count)
        return self.sent


class Listener:
    problem: str | None = None
    ghosts: tuple[HeldAttempt, ...] | None = None
    notes: tuple[str, ...] = ()
    cache_counts: wire.CacheCounts | None = None

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.new_ghosts = asyncio.Event()

    def end_ghosts(self, decided: Sequence[tuple[int, int]]) -> None:
        self.heard.append({"end": list(decided)})

    def receive_level(self, level: wire.Level) -> None:
        self.heard.append(level)

    def heartbeat_answered(self, at: float) -> None:
        self.heard.append(at)

    def drop(self, stale: Sequence[tuple[int, int]]) -> None:
        self.heard.append(list(stale))


@pytest.fixture
def socket() -> Socket:
    return Socket()


def link_over(socket: Socket, pace: Pace = QUIET) -> Link:
    return Link(cast(Any, socket), pace, LongestWaits())


class Served:
    def __init__(self, socket: Socket, pace: Pace = QUIET) -> None:
        self.link, self.listener = link_over(socket, pace), Listener()
        self.task = asyncio.create_task(self.link.serve(self.listener))

    async def end(self) -> None:
        async with asyncio.timeout(20):
            await self.task

    async def lost(self) -> str:
        with pytest.raises(Lost) as error:
            await self.end()
        return str(error.value)


@pytest.fixture
async def served(socket: Socket) -> AsyncIterator[Served]:
    served = Served(socket)
    yield served
    served.task.cancel()
    await asyncio.wait([served.task])


def said(number: int) -> wire.Said:
    return wire.Said(number, ())


# --- The Hello ------------------------------------------------------------------------------


async def test_a_node_that_accepts_the_worker_sets_its_heartbeat_interval(socket: Socket) -> None:
    link = link_over(socket)
    assert not link.fixes_commits
    short = msgspec.structs.replace(WELCOME, lost_after=3.0)
    socket.says(short)
    assert await link.greet(HELLO) == short
    assert (socket.sent, link.fixes_commits) == ([HELLO], True)
    assert link._pace.beat == heartbeat_seconds(3.0)


@pytest.mark.parametrize(("again", "error"), [(True, Lost), (False, RefusedByNode)])
async def test_a_refusal_is_shown_as_printable_text_and_says_whether_to_try_again(
    socket: Socket, again: bool, error: type[Exception]
) -> None:
    socket.says(wire.Refused("taken", "no\nroom", again))
    with pytest.raises(error, match=r"^no\?room$"):
        await link_over(socket).greet(HELLO)


@pytest.mark.parametrize("answer", [wire.Leave(), wire.Ack(1), wire.Level(())])
async def test_another_answer_to_the_hello_ends_the_connection(
    socket: Socket, answer: wire.FromNode
) -> None:
    socket.says(answer)
    with pytest.raises(Lost, match="did not answer the Hello"):
        await link_over(socket).greet(HELLO)


async def test_a_connection_that_breaks_during_the_hello_is_lost(socket: Socket) -> None:
    socket.broken = ConnectionResetError("reset")
    with pytest.raises(Lost, match="the node closed the connection: reset"):
        await link_over(socket).greet(HELLO)


@pytest.mark.parametrize(
    ("code", "reason", "shown"),
    [
        (None, None, "the connection broke"),
        (WSCloseCode.ABNORMAL_CLOSURE, "x", "the connection broke"),
        (WSCloseCode.OK, None, "the node closed the connection (1000)"),
        (
            WSCloseCode.POLICY_VIOLATION,
            "too\x07big",
            "the node closed the connection (1008: too?big)",
        ),
        (WSCloseCode.OK, "x" * 500, f"the node closed the connection (1000: {'x' * 200})"),
    ],
)
async def test_the_end_of_a_connection_is_reported_with_its_code(
    socket: Socket, code: int | None, reason: str | None, shown: str
) -> None:
    socket.close_code = code
    socket.ends(WSMsgType.CLOSE, code, reason)
    with pytest.raises(Lost) as lost:
        await link_over(socket).greet(HELLO)
    assert str(lost.value) == shown


async def test_an_error_of_the_connection_and_an_invalid_message_end_it(socket: Socket) -> None:
    socket.ends(WSMsgType.ERROR, OSError("bad frame"))
    with pytest.raises(Lost, match="the connection broke: bad frame"):
        await link_over(socket).greet(HELLO)
    socket.says(b"{")
    with pytest.raises(Lost, match="the node sent an invalid message"):
        await link_over(socket).greet(HELLO)


# --- While it is connected ------------------------------------------------------------------------


async def test_levels_are_passed_on_until_the_node_says_leave(
    socket: Socket, served: Served
) -> None:
    socket.says(wire.Level(()), wire.Level(()), wire.Leave(), wire.Level(()))
    await served.end()
    assert served.listener.heard == [wire.Level(())] * 2


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (wire.Refused("gone", "the token\tis revoked", True), "the token?is revoked"),
        (WELCOME, "the node sent an unexpected message"),
    ],
)
async def test_other_messages_end_the_connection(
    socket: Socket, served: Served, message: wire.FromNode, shown: str
) -> None:
    socket.says(message)
    assert await served.lost() == shown


async def test_a_node_that_is_silent_is_given_up_and_each_message_counts(socket: Socket) -> None:
    served = Served(socket, Pace(beat=3_600.0, silence=0.2))
    for _ in range(3):
        await asyncio.sleep(0)
        socket.says(wire.Level(()))
    assert await served.lost() == "the node was silent for 0.2 s"
    assert len(served.listener.heard) == 3


# --- Messages of the worker -------------------------------------------------------------------


async def test_each_message_gets_its_own_answer_in_any_order(
    socket: Socket, served: Served
) -> None:
    one, two = (asyncio.create_task(served.link.send(said)) for _ in range(2))
    assert await socket.until(2) == [said(1), said(2)]
    socket.says(wire.Ack(99), wire.Ack(2, ((5, 6),), "c" * 40), wire.Ack(1))
    async with asyncio.timeout(20):
        assert await one == wire.Ack(1)
        assert await two == wire.Ack(2, ((5, 6),), "c" * 40)
    assert served.listener.heard == [[(5, 6)]]
    assert served.link._unanswered == {}


async def test_messages_without_an_answer_at_the_end_count_as_not_processed(
    socket: Socket, served: Served
) -> None:
    waiting = asyncio.create_task(served.link.send(said))
    await socket.until(1)
    socket.says(wire.Leave())
    await served.end()
    with pytest.raises(StoreAway, match="lost before it answered"):
        await waiting
    with pytest.raises(StoreAway, match="is gone"):
        await served.link.send(said)
    assert socket.sent == [said(1)]


async def test_a_message_that_cannot_be_sent_counts_as_not_processed(
    socket: Socket, served: Served
) -> None:
    socket.broken = ConnectionResetError("reset")
    with pytest.raises(StoreAway, match="reset"):
        await served.link.send(said)
    assert served.link._unanswered == {}


# --- Heartbeats -------------------------------------------------------------------------------


async def test_an_answered_heartbeat_counts_from_when_it_was_sent(socket: Socket) -> None:
    served = Served(socket, Pace(beat=0.0))
    served.listener.problem = "no git"
    first, second = (await socket.until(2))[:2]
    assert (first, second) == (wire.Beat(1, "no git"), wire.Beat(2, "no git"))
    times = [served.link._beats[number] for number in (1, 2)]
    socket.says(wire.Ack(2), wire.Ack(1), wire.Ack(2), wire.Leave())
    await served.end()
    assert served.listener.heard == times[::-1], "once each"
    count = len(socket.sent)
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(socket.sent) == count, "none is sent behind the end"


async def test_a_limited_number_of_heartbeats_is_remembered(socket: Socket) -> None:
    served = Served(socket, Pace(beat=0.0))
    await socket.until(MAX_UNANSWERED_BEATS)
    assert min(served.link._beats) <= 2
    count = len(await socket.until(2 * MAX_UNANSWERED_BEATS))
    assert count <= max(served.link._beats) <= count + 1
    assert len(served.link._beats) == MAX_UNANSWERED_BEATS
    oldest = min(served.link._beats)
    socket.says(wire.Ack(oldest - 1), wire.Leave())
    await served.end()
    assert served.listener.heard == []


async def test_heartbeats_end_with_the_connection(socket: Socket) -> None:
    socket.broken = ConnectionResetError("reset")
    served = Served(socket, Pace(beat=0.0))
    for _ in range(5):
        await asyncio.sleep(0)
    socket.says(wire.Leave())
    await served.end()
    assert len(served.link._beats) == 1
