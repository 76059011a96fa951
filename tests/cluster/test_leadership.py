"""Shards that change hands: the leadership with a scripted lock session."""

import asyncio
import itertools
from collections.abc import Callable

import attrs
import pytest

from boxsched.cluster import elected as module
from boxsched.cluster.elected import ElectedLeadership
from boxsched.cluster.leadership import LeadershipFailed
from boxsched.cluster.lock_session import STALL_SECONDS, PingResult, clock
from boxsched.cluster.locks import NameTaken
from boxsched.cluster.shares import LockView
from boxsched.errors import StoreAway
from boxsched.protocol.lock_keys import LockKeys

ME = 7


@attrs.frozen
class ShardHead:
    id: int


class FakeShards:
    seconds = 0.0

    async def shards(self) -> list[ShardHead]:
        await asyncio.sleep(self.seconds)
        return [ShardHead(1)]


class ScriptedLockSession:
    """In place of LockSession: the test says what is seen."""

    def __init__(self, url, keys, node, *, retry_interval, seen, lost, failed) -> None:
        self.seen, self.lost, self.failed = seen, lost, failed
        self.released: list[int] = []
        self.wanted: list[tuple[int, ...]] = []
        self.ticks: list[float] = []
        self.started = self.ended = False
        self.let_go = asyncio.Event()

    def start(self) -> None:
        self.started = True

    def join(self, seconds: float) -> None: ...

    def tick(self) -> None:
        self.ticks.append(clock())

    def want(self, shards) -> None:
        self.wanted.append(tuple(shards))

    def release(self, shard: int) -> None:
        self.released.append(shard)
        self.let_go.set()

    def end(self) -> None:
        self.ended = True

    def see(self, *mine: int, nodes: tuple[int, ...] = (ME,)) -> None:
        self.seen(PingResult(clock(), LockView(ME, frozenset(nodes), dict.fromkeys(mine, ME))))


class Engine:
    leads = True

    def __init__(self, may_lead: Callable[[], bool], slow: float = 0.0) -> None:
        self.may_lead, self.slow, self.awake = may_lead, slow, asyncio.Event()

    def wake(self) -> None:
        self.awake.set()

    async def run(self) -> None:
        while self.may_lead():
            try:
                async with asyncio.timeout(0.05):
                    await self.awake.wait()
            except TimeoutError:
                pass
        await asyncio.sleep(self.slow)  # the running turn


@pytest.fixture
def lead(monkeypatch):
    monkeypatch.setattr(module, "LockSession", ScriptedLockSession)

    def make(heads: FakeShards, slow: float = 0.0) -> ElectedLeadership:
        made = []

        def engine_of(shard, may_lead):
            made.append(Engine(may_lead, slow))
            return made[-1]

        one = ElectedLeadership(
            "", heads, keys=LockKeys.of("k", "c"), node="n",
            retry_interval=1.0, engine_of=engine_of,
        )  # fmt: skip
        one.made = made
        return one

    return make


async def test_a_view_from_before_a_release_starts_nothing(lead) -> None:
    """The ping was answered before the release reached the thread, and is reported after it."""
    one = lead(FakeShards())
    await one.start()
    session = one._session
    running = asyncio.create_task(one.run())
    session.see(1)
    await asyncio.sleep(0.15)
    assert len(one.made) == 1
    one._end(1)  # handed over
    one._left_alone[1] = clock() + 5.0
    late = PingResult(clock(), LockView(ME, frozenset({ME, 8}), {1: ME}))  # the ping's answer
    async with asyncio.timeout(2):
        await session.let_go.wait()
    session.seen(late)  # the lock is about to be unlocked, and another node takes it
    await asyncio.sleep(0.05)
    running.cancel()
    assert len(one.made) == 1, "a second engine was begun for a lock that is being let go"


async def test_a_slow_look_for_shards_does_not_stop_the_ticks(lead, monkeypatch) -> None:
    monkeypatch.setattr(module, "SHARDS_SECONDS", 0.1)
    heads = FakeShards()
    one = lead(heads)
    claiming = asyncio.create_task(one.claim())
    await asyncio.sleep(0.05)
    one._session.see()
    await claiming
    await one.start()
    running = asyncio.create_task(one.run())
    await asyncio.sleep(0.2)
    heads.seconds = STALL_SECONDS + 0.4  # below the store's 1.8 s
    await asyncio.sleep(STALL_SECONDS + 1.0)
    running.cancel()
    ticks = one._session.ticks
    longest = max(b - a for a, b in itertools.pairwise(ticks))
    assert longest < STALL_SECONDS, f"no tick for {longest:.1f} s: the thread ends the session"


async def test_a_slow_stop_still_releases_everything(lead) -> None:
    """service._leave stops waiting; the turn, the ticks and the locks must still end."""
    one = lead(FakeShards(), slow=1.0)
    await one.start()
    running = asyncio.create_task(one.run())
    one._session.see(1)
    await asyncio.sleep(0.1)
    turn = one._tenures[1].task
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await one.close()
    await asyncio.sleep(0.3)
    assert not turn.cancelled(), "the turn under way was cancelled"
    assert not running.done(), f"the leadership's task ended: {running}"
    left = [t for t in asyncio.all_tasks() if "_tick_on" in repr(t)]
    assert not left, "ticks forever: the thread never ends the session by itself"


async def test_ticks_continue_from_the_claim_to_the_run(lead) -> None:
    """worker.start() adopts jobs and Redis is waited for; ticks must continue meanwhile."""
    one = lead(FakeShards())
    claiming = asyncio.create_task(one.claim())
    await asyncio.sleep(0.05)
    assert one._session.started
    one._session.see()
    await claiming
    await one.start()
    before = len(one._session.ticks)
    await asyncio.sleep(STALL_SECONDS)  # Node.start continues with other work
    assert len(one._session.ticks) > before, "the thread has ended the session by now"


async def test_without_a_session_a_claim_ends_in_time_and_may_be_made_again(
    lead, monkeypatch
) -> None:
    monkeypatch.setattr(module, "CLAIMED_SECONDS", 0.05)
    with pytest.raises(StoreAway, match=r"no lock session within 0\.05 s"):
        await lead(FakeShards()).claim()


async def test_a_refused_claim_gives_the_reason_and_so_does_the_run(lead) -> None:
    one = lead(FakeShards())
    claiming = asyncio.create_task(one.claim())
    await asyncio.sleep(0)
    one._session.failed(NameTaken("another process has this node's name"))
    with pytest.raises(LeadershipFailed, match="another process"):
        await claiming
    with pytest.raises(LeadershipFailed, match="another process"):
        await one.run_once()


async def test_a_thread_that_outlives_its_loop_ends_its_session(lead) -> None:
    one = lead(FakeShards())
    closed = asyncio.new_event_loop()
    closed.close()
    one._loop = closed
    one._session.seen(None)
    assert one._session.ended


async def test_after_a_close_nothing_is_wanted_and_no_tick_continues(lead) -> None:
    one = lead(FakeShards())
    claiming = asyncio.create_task(one.claim())
    await asyncio.sleep(0)
    one._session.see()
    await claiming
    await one.start()
    assert one._session.wanted[-1] == (1,)
    await one.close()
    assert one._session.ended
    one._session.see()
    await asyncio.sleep(0)
    assert one._session.wanted[-1] == ()
    await asyncio.sleep(0)
    assert one._ticking.cancelled()
