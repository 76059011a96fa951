"""What the gateway does at intervals, and when it closes."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

import attrs
import pytest
from aiohttp import WSCloseCode

from boxsched.errors import StoreAway
from boxsched.gateway.figures import Times
from boxsched.gateway.gateway import Gateway
from boxsched.model import JobId, WorkerId
from boxsched.store.store import Store
from tests.gateway.fakes import AT_ONCE, ME, TOKEN
from tests.gateway.harness import PATIENCE_SECONDS


def gateway(hints_reach: Callable[[], bool], times: Times, lost_after: float = 120.0) -> Gateway:
    async def ask(shard: int, command: Any) -> None:
        raise AssertionError("nothing is announced")

    class Quiet:
        fix_commit = settle = open_ssh_session = None

    return Gateway(
        cast(Store, Quiet()),
        ask,
        ask,
        node="node-1",
        cluster="the cluster",
        lost_after=lost_after,
        required={},
        log_limit=1,
        hints_reach=hints_reach,
        source=cast(Any, Quiet()),
        times=times,
    )


class Link:
    """``at``: when it was last heard and last sent a level, in seconds of the loop's clock."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.ended: list[tuple[int, str]] = []

    def silent_since(self, time: float) -> bool:
        return self.at < time

    def level_sent_before(self, time: float) -> bool:
        return self.at < time

    def end(self, code: WSCloseCode, reason: str) -> None:
        self.ended.append((code, reason))


class Pauses:
    """In place of ``asyncio.sleep``: records the seconds, and ends after a number of calls."""

    def __init__(self, count: int) -> None:
        self.seconds: list[float] = []
        self.left = count

    async def sleep(self, seconds: float) -> None:
        if not self.left:
            raise asyncio.CancelledError
        self.left -= 1
        self.seconds.append(seconds)


async def test_silent_connections_end_and_old_levels_are_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = gateway(lambda: True, Times(silence=20.0, level=10.0))
    now = asyncio.get_running_loop().time()
    links = {WorkerId(n): Link(now - seconds) for n, seconds in ((1, 1.0), (2, 14.0), (3, 40.0))}
    harness._links = cast(Any, links)
    looked: list[tuple[list[WorkerId], bool]] = []
    monkeypatch.setattr(
        harness._look_ups, "look", lambda due, *, anyway: looked.append((list(due), anyway))
    )
    pauses = Pauses(2)
    monkeypatch.setattr("boxsched.gateway.gateway.asyncio.sleep", pauses.sleep)
    with pytest.raises(asyncio.CancelledError):
        await harness._watch()
    assert pauses.seconds == [1.0, 1.0], "ten times in the shorter time"
    assert looked == [([2, 3], True)] * 2
    assert [link.ended for link in links.values()] == [
        [],
        [],
        [(WSCloseCode.TRY_AGAIN_LATER, "silent")] * 2,
    ]


async def test_without_hints_all_are_looked_up_soon_after_news_and_otherwise_less_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reach = [True, False, False, False, False, False]
    answers: list[bool | StoreAway] = [True, StoreAway("away for the test"), False, True, False]
    harness = gateway(lambda: reach.pop(0), Times(poll_fastest=0.02, poll=0.2))
    harness._links = cast(Any, {ME: Link(0.0)})
    asked: list[list[WorkerId]] = []

    async def looked(workers: list[WorkerId]) -> bool:
        asked.append(workers)
        answer = answers.pop(0)
        if isinstance(answer, StoreAway):
            raise answer
        return answer

    monkeypatch.setattr(harness._look_ups, "looked", looked)
    pauses = Pauses(6)
    monkeypatch.setattr("boxsched.gateway.gateway.asyncio.sleep", pauses.sleep)
    with pytest.raises(asyncio.CancelledError):
        await harness._poll()
    assert asked == [[ME]] * 5
    assert all(0.0 < seconds <= 0.2 for seconds in pauses.seconds)


async def test_without_workers_there_is_no_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = gateway(lambda: False, Times())
    pauses = Pauses(3)
    monkeypatch.setattr("boxsched.gateway.gateway.asyncio.sleep", pauses.sleep)

    async def looked(workers: list[WorkerId]) -> bool:
        raise AssertionError("there is nobody to look up")

    monkeypatch.setattr(harness._look_ups, "looked", looked)
    with pytest.raises(asyncio.CancelledError):
        await harness._poll()


async def test_look_ups_take_at_most_half_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = gateway(lambda: False, Times(poll_fastest=0.02, poll=0.2))
    harness._links = cast(Any, {ME: Link(0.0)})
    clock = [0.0]
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: clock[0])

    async def looked(workers: list[WorkerId]) -> bool:
        clock[0] += 5.0
        return True

    monkeypatch.setattr(harness._look_ups, "looked", looked)
    pauses = Pauses(3)
    monkeypatch.setattr("boxsched.gateway.gateway.asyncio.sleep", pauses.sleep)
    with pytest.raises(asyncio.CancelledError):
        await harness._poll()
    assert pauses.seconds[0] <= 0.2
    assert pauses.seconds[1:] == [5.0, 5.0]


async def test_heartbeats_are_written_often_enough_for_a_short_promise() -> None:
    assert gateway(lambda: True, Times(beats=1.0), lost_after=5.0)._beats._seconds == 0.5
    assert gateway(lambda: True, Times(beats=1.0), lost_after=60.0)._beats._seconds == 1.0


async def test_a_gateway_that_closes_waits_for_no_store_that_is_away(
    caplog: pytest.LogCaptureFixture,
) -> None:
    closing = gateway(lambda: True, attrs.evolve(AT_ONCE, hang_up=20.0))

    async def away() -> None:
        raise StoreAway("away for the test")

    closing._ends.write = away  # type: ignore[method-assign]
    async with asyncio.timeout(PATIENCE_SECONDS):
        await closing.close()
    assert "workers could not be marked as disconnected" in caplog.text


async def test_a_gateway_that_closes_writes_the_last_output() -> None:
    harness = gateway(lambda: True, attrs.evolve(AT_ONCE, leave=0.0, hang_up=20.0))
    written: list[Any] = []
    begun = asyncio.Event()
    may_end = asyncio.Event()

    async def append_log(chunks: Sequence[Any]) -> None:
        begun.set()
        await may_end.wait()
        written.extend(chunks)

    harness._store.append_log = append_log  # type: ignore[method-assign]
    chunk = (JobId(1), 1, 0, b"last")
    adding = asyncio.ensure_future(harness._side.append_log([chunk]))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begun.wait()
        closing = asyncio.create_task(harness.close())
        asyncio.get_running_loop().call_soon(may_end.set)
        await closing
    assert written == [chunk]
    await adding


class StuckLine:
    """A connection on which nothing arrives until it is cut."""

    address = "192.0.2.7"
    gone = False

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.was_cut = asyncio.Event()

    async def receive(self) -> str | None:
        self.asked.set()
        await self.was_cut.wait()
        return None

    async def send(self, texts: list[bytes]) -> None: ...

    async def hang_up(self, code: WSCloseCode, reason: str) -> None: ...

    def cut(self) -> None:
        self.was_cut.set()


async def test_a_gateway_that_closes_cuts_connections_that_do_not_end() -> None:
    closing = gateway(lambda: True, attrs.evolve(AT_ONCE, hello=3_600.0, leave=0.0, hang_up=0.0))
    line = StuckLine()
    serving = asyncio.create_task(closing._serve(line, TOKEN))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await line.asked.wait()
        await closing.close()
        assert line.was_cut.is_set()
        await serving
