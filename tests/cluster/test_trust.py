"""How long a node trusts its locks, with a held clock and a lock server in memory."""

import asyncio
import time
from collections.abc import Callable

import psycopg2
import pytest

from boxsched.cluster import elected, lock_session
from boxsched.cluster.lock_session import PING_SECONDS, STALL_SECONDS, TRUST_SECONDS
from boxsched.errors import StoreAway
from boxsched.protocol.lock_keys import LockKeys
from tests.cluster.lock_server import FakeShards, HeldNode, LockServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> LockServer:
    server = LockServer()
    monkeypatch.setattr(lock_session, "clock", lambda: server.now)
    monkeypatch.setattr(elected, "clock", lambda: server.now)
    return server


@pytest.fixture
def begin(server: LockServer) -> Callable[..., HeldNode]:
    return lambda name, *shards: HeldNode(name, server, FakeShards(shards or (1,)))


async def leading(node: HeldNode) -> HeldNode:
    """Start the node, and let it lead all free shards."""
    await node.leadership.start()
    node.ping()  # connects
    node.ping()
    await node.step()
    return node


async def test_trust_counts_from_the_question_not_from_the_answer(begin, server) -> None:
    node = await leading(begin("a"))
    began = server.now
    node.ping(after=2.0)
    await node.step()
    server.pass_time(began + TRUST_SECONDS - 0.01 - server.now)
    assert node.trusts(1)
    server.pass_time(0.02)
    assert not node.trusts(1)


async def test_trust_ends_before_the_server_ends_a_silent_session(begin, server) -> None:
    node = await leading(begin("a"))
    server.pass_time(TRUST_SECONDS)
    assert server.sessions and not node.trusts(1)


async def test_trust_that_ran_out_ends_the_engine_and_frees_the_lock(begin, server) -> None:
    node = await leading(begin("a"))
    server.pass_time(TRUST_SECONDS)
    await node.step()
    assert node.leadership.led == frozenset() and not node.engines
    node.leadership._session.want(())
    node.ping()
    assert server.holder(1) is None, "its lock is let go, as its engine has ended"


async def test_the_clock_continues_while_process_and_machine_sleep(monkeypatch) -> None:
    asked: list[int] = []
    monkeypatch.undo()
    monkeypatch.setattr(time, "clock_gettime", lambda which: asked.append(which) or 7.0)
    assert lock_session.clock() == 7.0
    assert asked == [time.CLOCK_BOOTTIME]


async def test_a_node_that_slept_trusts_nothing_until_a_new_ping(begin, server) -> None:
    node = await leading(begin("a"))
    node.ping()  # answered, and not read yet
    server.pass_time(3600.0)
    assert not node.trusts(1)
    await node.step()
    assert not node.leadership.trusted and not node.engines, "an answer from before the sleep"


async def test_an_answer_that_is_read_too_late_starts_nothing(begin, server) -> None:
    node = begin("a")
    await node.leadership.start()
    node.ping()
    node.ping()
    server.pass_time(TRUST_SECONDS)
    await node.step()
    assert not node.engines
    assert server.epochs == {}


async def test_an_older_answer_does_not_shorten_trust(begin, server) -> None:
    node = await leading(begin("a"))
    old = node.leadership._trusted_until
    server.pass_time(1.0)
    node.ping()
    (told, seen) = node.mail.pop()
    told(seen)
    assert node.leadership._trusted_until == old + 1.0
    early = lock_session.PingResult(server.now - 1.0, seen.view)
    node.leadership._seen(early)
    assert node.leadership._trusted_until == old + 1.0


async def test_a_lost_session_ends_trust_at_once(begin, server) -> None:
    node = await leading(begin("a"))
    assert node.trusts(1)
    node.lose("its server went")
    engine = node.engines[1]
    [(told, why)] = node.mail
    told(why)
    node.mail.clear()
    assert not node.leadership.trusted and not engine.may_lead()
    assert node.leadership.view is None and node.leadership.led == frozenset()


async def test_a_session_that_returns_starts_another_engine_with_a_higher_epoch(
    begin, server
) -> None:
    node = await leading(begin("a"))
    former = node.engines[1]
    node.lose("its server went")
    node.ping()
    node.ping()
    await node.step()  # told of both: the former engine ends first
    for _ in range(2):
        server.pass_time(PING_SECONDS)
        node.ping()
        await node.step()
    assert node.engines[1] is not former
    assert (former.epoch, node.engines[1].epoch) == (1, 2)
    assert not former.can_commit


async def test_a_busy_engine_keeps_its_lock_until_its_turn_ends(begin, server) -> None:
    """Also if trust is back meanwhile: an engine that has begun to end, ends."""
    first, second = await leading(begin("a")), begin("b")
    engine = first.engines[1]
    engine.busy = True
    first.leadership._end(1)
    await second.leadership.start()
    for _ in range(3):
        for node in (first, second):
            node.ping()
            await node.step()
        server.pass_time(PING_SECONDS)
    assert first.trusts(1) is False and first.leadership.led == frozenset()
    assert server.holder(1) is not None and not second.engines
    engine.busy = False
    first.leadership._left_alone[1] = server.now + 5.0
    for _ in range(3):
        for node in (first, second):
            await node.step()
            node.ping()
            await node.step()
        server.pass_time(PING_SECONDS)
    assert second.leadership.led == {1} and not first.engines


async def test_a_blocked_loop_loses_the_session(begin, server) -> None:
    node = await leading(begin("a"))
    server.pass_time(STALL_SECONDS)
    node.ping()
    assert node.locks is not None, "not a moment sooner"
    server.pass_time(0.01)
    node.ping()
    assert node.locks is None and server.holder(1) is None
    assert "was blocked for 1.5 s" in str(node.mail[-1][1])


async def test_a_shard_that_was_handed_over_is_left_alone(begin, server) -> None:
    """Otherwise the giver, which sees the free lock first, would take it again."""
    first = await leading(begin("a", 1, 2))
    assert first.leadership.led == {1, 2}
    second = begin("b", 1, 2)
    await second.leadership.start()
    second.ping()
    server.pass_time(PING_SECONDS)
    first.ping()
    await first.step()  # sees the other: gives the last shard
    assert first.leadership.led == {1}
    first.ping()  # unlocks
    first.ping()
    assert server.holder(2) is None
    assert first.session._wanted == ()
    second.ping()
    await second.step()
    assert second.leadership.led == {2}
    begun = given_at = server.now
    while server.now < given_at + elected.LEAVE_ALONE_SECONDS + 1.0 and not first.session._wanted:
        server.pass_time(PING_SECONDS)
        begun = server.now
        for node in (second, first):
            node.ping()
            await node.step()
    assert first.session._wanted == (2,), "it may lead it again"
    assert begun == pytest.approx(given_at + elected.LEAVE_ALONE_SECONDS, abs=2 * PING_SECONDS)


async def test_one_shard_at_a_time_is_handed_over(begin, server) -> None:
    first = await leading(begin("a", 1, 2, 3, 4))
    first.engines[4].busy = True
    second = begin("b", 1, 2, 3, 4)
    await second.leadership.start()
    second.ping()
    for _ in range(3):
        server.pass_time(PING_SECONDS)
        first.ping()
        await first.step()
    assert first.leadership.led == {1, 2, 3}


async def test_an_answer_from_before_a_release_hands_nothing_over(begin, server) -> None:
    """It still shows the released lock as ours, and a node that leads fewer."""
    first = await leading(begin("a", 1, 2))
    second = begin("b", 1, 2)
    await second.leadership.start()
    second.ping()
    first.ping()
    (told, seen) = first.mail.pop()
    told(seen)  # shard 2 is handed over
    first.ping()  # still holds both locks; read after the release
    await first.step(reads_mail=False)
    assert set(first.engines) == {1}
    server.pass_time(PING_SECONDS)
    await first.step()
    assert first.leadership.led == {1}
    for _ in range(3):
        server.pass_time(PING_SECONDS)
        for node in (first, second):
            node.ping()
            await node.step()
    assert (first.leadership.led, second.leadership.led) == ({1}, {2})


async def test_an_answer_from_before_a_release_starts_no_second_engine(begin, server) -> None:
    """Also one requested at the same instant: the lock is about to be unlocked."""
    node = await leading(begin("a"))
    first = node.engines[1]
    node.ping()  # shows the lock as ours; read after the release
    node.leadership._end(1)
    await node.step(reads_mail=False)
    assert not node.engines
    (told, seen) = node.mail.pop()
    told(seen)
    assert not node.engines and server.epochs == {1: first.epoch}
    server.pass_time(PING_SECONDS)
    node.ping()
    await node.step()
    assert node.engines[1] is not first, "the next answer counts"


async def test_a_lock_that_is_seen_to_be_gone_ends_its_engine(begin, server) -> None:
    """For example, an operator has unlocked it, and another node may lead already."""
    node = await leading(begin("a"))
    engine = node.engines[1]
    node.locks.session.shards[1] = 0
    node.ping()
    [(told, seen)] = node.mail
    node.mail.clear()
    told(seen)
    assert not engine.may_lead() and node.leadership.led == frozenset()


async def test_a_node_that_stops_starts_no_engine(begin, server) -> None:
    """A lock that it was given in its last moment is released."""
    node = await leading(HeldNode("a", server, heads := FakeShards((1,))))
    node.engines[1].busy = True
    heads.ids = (1, 2)
    await node.leadership._look_for_shards()
    node.ping()  # takes the second shard's lock
    node.closing = asyncio.get_running_loop().create_task(node.leadership.close())
    await asyncio.sleep(0)
    assert node.session._wanted == (), "else the thread would take freed locks again"
    (told, seen) = node.mail.pop()
    told(seen)
    assert set(node.engines) == {1}
    assert node.session._wanted == ()
    node.ping()
    assert server.holder(2) is None
    node.engines[1].busy = False
    for _ in range(3):
        await node.step()
    await node.closing
    assert not server.sessions


async def test_an_engine_that_ends_by_an_error_ends_the_leadership(begin, server) -> None:
    node = await leading(begin("a"))
    tenure = node.leadership._tenures[1]

    async def mistaken() -> None:
        raise ZeroDivisionError

    tenure.task.cancel()
    tenure.task = asyncio.create_task(mistaken())
    with pytest.raises(ZeroDivisionError):
        await node.step()


async def test_releases_for_an_earlier_session_are_forgotten(begin, server) -> None:
    node = await leading(begin("a"))
    node.session.release(1)
    node.lose("lost before the release was sent")
    node.mail.clear()
    node.ping()
    node.session.want((1,))
    node.ping()
    held = server.holder(1)
    node.ping()
    assert server.holder(1) is held is not None, "the new session's lock is not the old one's"


async def test_shards_are_looked_for_again_after_five_seconds(begin, server) -> None:
    heads = FakeShards((1,))
    node = await leading(HeldNode("a", server, heads))
    heads.ids = (1, 2)
    server.pass_time(0.5)
    node.ping()
    await node.step()
    assert node.session._wanted == ()
    while node.leadership.led != {1, 2}:
        server.pass_time(1.0)
        node.ping()
        await node.step()
        assert server.now < 1000.0 + elected.SHARDS_SECONDS + 3.0


async def test_a_look_for_shards_while_the_store_is_away_is_repeated_later(begin, server) -> None:
    node = await leading(begin("a"))
    looks: list[float] = []

    async def away() -> None:
        looks.append(server.now)
        raise StoreAway("away for the test")

    node.leadership._store.shards = away
    for _ in range(80):
        server.pass_time(0.1)
        node.ping()
        await node.step()
    assert len(looks) == 1 and node.leadership.led == {1}


async def test_an_unknown_shard_is_released(begin, server) -> None:
    """From an earlier version, for example, or just created by another node."""
    node = await leading(begin("a"))
    node.locks.session.shards[9] = 1
    node.ping()
    await node.step()
    assert 9 not in node.engines
    node.ping()
    assert not node.locks.session.shards[9]


async def test_waiting_for_another_leader_is_logged_once(begin, server, caplog) -> None:
    caplog.set_level("INFO")
    await leading(begin("a"))
    second = begin("b")
    await second.leadership.start()
    for _ in range(4):
        second.ping()
        await second.step()
    said = [r.getMessage() for r in caplog.records if "waiting" in r.getMessage()]
    assert said == ["waiting for leader lease of shard 1"]


async def test_an_outage_of_the_database_is_reported_once() -> None:
    told: list[str] = []

    class Away:
        tries = 0

        def connect_raw(self, options: object) -> None:
            self.tries += 1
            if self.tries == 4:
                session.end()
            raise psycopg2.OperationalError("away for the test")

    servers = Away()
    session = lock_session.LockSession(
        servers,  # type: ignore[arg-type]
        LockKeys.of("key", "cluster"),
        1,
        retry_interval=0.0,
        seen=lambda seen: None,
        lost=told.append,
        failed=lambda error: told.append(repr(error)),
    )
    session._live()
    assert servers.tries == 4
    assert told == ["away for the test"]
