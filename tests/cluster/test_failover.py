"""Failovers between a real primary and its standby: which server is used, and what continues."""

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsched.cluster.lock_session import LockSession
from boxsched.errors import Fenced, OutcomeUnknown, StoreAway
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import WorkerConnection
from boxsched.store import Store, open_store
from boxsched.store.errors import StoreBehind
from boxsched.store.operating.check import check
from boxsched.store.postgres.pulse import COMMIT_SECONDS
from boxsched.store.postgres.servers import PostgresServers
from boxsched.store.postgres.visits import Place, Visit, visited
from boxsched.store.steps.maintenance import JUMP
from tests.cluster.conftest import KEYS, RecordingLockSession
from tests.cluster.primary_and_standby import PrimaryAndStandby, pair
from tests.contract.store_data import Leader, build
from tests.db.conftest import run


@pytest.fixture
def two() -> Iterator[PrimaryAndStandby]:
    with pair() as two:
        yield two


def session_of(store: Store) -> RecordingLockSession:
    """A lock session on the server that the store uses."""
    assert store.servers is not None
    session = RecordingLockSession("", 1)
    session.session = LockSession(
        store.servers,
        KEYS,
        1,
        retry_interval=0.2,
        seen=lambda seen: session._note(session.views, seen),
        lost=lambda why: session._note(session.losses, why),
        failed=lambda error: session._note(session.failures, error),
    )
    return session.start(1)


async def insisting(call, *arguments):
    """Wait until the store is back."""
    async with asyncio.timeout(20):
        while True:
            try:
                return await call(*arguments)
            except StoreAway:
                await asyncio.sleep(0.05)


async def fail_over(two: PrimaryAndStandby) -> None:
    """Fail over to the second with everything committed; the first returns and accepts writes."""
    await asyncio.to_thread(two.caught_up)
    two.first.kill()
    await asyncio.to_thread(two.promote)
    await asyncio.to_thread(two.come_back)


async def test_a_returning_old_primary_is_not_used(two: PrimaryAndStandby, tmp_path: Path) -> None:
    """All sessions of a node use the newer server, even if the node has just started."""
    store = open_store(two.url, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    session = session_of(store)
    await asyncio.to_thread(session.until, lambda s: s.mine == {1})

    await fail_over(two)
    await asyncio.to_thread(session.until, lambda s: s.losses)
    seen = len(session.views)
    await asyncio.to_thread(session.until, lambda s: len(s.views) > seen and s.mine == {1})
    leader = await insisting(Leader(store).lead, 0)
    project = await leader.project()
    new = [(await leader.submit(build(project, f"b{n}"))).id for n in range(20)]
    await asyncio.gather(*(store.batch_number(SHARD) for _ in range(20)))  # every connection
    held = two.asked(two.second, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    assert held[0][0] > 0
    await asyncio.to_thread(session.end)
    await store.close()

    again = open_store(two.url, tmp_path)
    await again.open()
    assert await again.workload(new[-1]) is not None
    await again.close()
    stored = f"SELECT count(*) FROM workload WHERE id >= {new[0]}"
    assert two.asked(two.first, stored) == [(0,)]
    assert two.asked(two.second, stored) == [(20,)]


async def test_an_old_primary_alone_is_refused_until_an_operator_allows_it(
    two: PrimaryAndStandby, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(two.url, tmp_path)
    await store.open()
    await Leader(store).lead()
    await fail_over(two)
    await insisting(Leader(store).lead, 0)
    two.second.kill()
    with pytest.raises(StoreAway):
        await store.batch_number(SHARD)
    caplog.clear()
    for _ in range(3):
        with pytest.raises(StoreBehind, match="behind what this node has seen"):
            await store.batch_number(SHARD)
    await store.close()
    again = open_store(two.url, tmp_path)
    with pytest.raises(StoreBehind, match="it is on timeline 1, but a later history has been seen"):
        await again.open()
    loud = [one for one in caplog.records if one.levelno == logging.ERROR]
    assert len(loud) == 2, "once for each life, not at each try"

    await asyncio.to_thread(run, "db", "restored", "--database", two.first.url("postgres"))
    await again.open()
    epoch, _ = await again.batch_number(SHARD)
    assert epoch > JUMP
    await again.close()
    again = open_store(two.url, tmp_path)
    await asyncio.to_thread(two.second.start)
    await again.open()  # and the other is now the old one
    assert (await again.batch_number(SHARD))[0] == epoch
    await again.close()


async def test_a_promoted_standby_is_found_while_the_old_primary_answers(
    two: PrimaryAndStandby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one is not cut off: the nodes leave it by themselves, the lock session too."""
    monkeypatch.setattr("boxsched.store.postgres.servers.SERVERS_LOOK_SECONDS", 0.2)
    store = open_store(two.url, tmp_path)
    await store.open()
    old = await Leader(store).lead()
    session = session_of(store)
    await asyncio.to_thread(session.until, lambda s: s.mine == {1})
    await asyncio.to_thread(two.caught_up)
    await asyncio.to_thread(two.promote)
    lost = lambda s: any("another server" in why for why in s.losses)  # noqa: E731
    await asyncio.to_thread(session.until, lost)
    with pytest.raises(Fenced):
        await insisting(store.commit, old.next_batch())
    await asyncio.to_thread(session.end)
    await store.close()
    assert two.asked(two.first, "SELECT batch FROM shard") == [(old.batch,)]


async def test_lease_tokens_from_before_a_failover_are_invalid(
    two: PrimaryAndStandby, tmp_path: Path
) -> None:
    """An asynchronous standby lost the last commits: nothing is given twice after them."""
    store = open_store(two.url, tmp_path)
    await store.open()
    old = await Leader(store).lead()
    project = await old.project()
    kept = await old.submit(build(project, "kept"))
    await asyncio.to_thread(two.caught_up)
    two.asked(two.second, "SELECT pg_wal_replay_pause()")
    lost = [(await old.submit(build(project, f"lost-{n}"))).id for n in range(3)]
    for _ in range(5):
        await old.commit()
    two.first.kill()
    await asyncio.to_thread(two.promote)

    with pytest.raises(Fenced):
        await insisting(store.commit, old.next_batch())
    assert await store.beat([WorkerConnection(old.worker, 1)]) == {}, "workers connect anew"
    leader = await Leader(store).lead(boxes=0)
    assert leader.epoch > JUMP and leader.batch > old.batch
    new = await leader.submit(build(await leader.project(), "new"))
    assert new.id > max(lost) and new.id > kept.id + len(lost)
    await store.close()
    assert await check(two.second.url("postgres")) == []


async def test_a_failover_is_reported_once_with_the_missing_time(
    two: PrimaryAndStandby, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = open_store(two.url, tmp_path)
    await store.open()
    await Leader(store).lead()
    await fail_over(two)
    await insisting(store.batch_number, SHARD)
    await asyncio.gather(*(store.batch_number(SHARD) for _ in range(10)))
    told = [one.getMessage() for one in caplog.records if "new history" in one.getMessage()]
    assert len(told) == 1 and "timeline 2" in told[0] and "may be missing" in told[0]
    await store.close()


async def test_a_lock_session_alone_finds_the_newer_server(
    two: PrimaryAndStandby, tmp_path: Path
) -> None:
    servers = PostgresServers(two.url)
    session = RecordingLockSession("", 1)
    session.session._servers = servers
    session.start(1)
    await asyncio.to_thread(session.until, lambda s: s.mine == {1})
    await fail_over(two)
    await asyncio.to_thread(session.until, lambda s: s.losses)
    seen = len(session.views)
    await asyncio.to_thread(session.until, lambda s: len(s.views) > seen and s.mine == {1})
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
    assert two.asked(two.first, held) == [(0,)]
    await asyncio.to_thread(session.end)


async def test_two_concurrent_checks_find_no_server_behind(
    two: PrimaryAndStandby, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock session checks, and its data is outdated when another check records newer
    batches."""
    store = open_store(two.url, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    servers = store.servers
    assert servers is not None
    looked, goes_on = threading.Event(), threading.Event()

    async def held_up(place: Place, timeout: float) -> Visit | Exception:
        visit = await visited(place, timeout)
        if not looked.is_set():
            looked.set()
            await asyncio.to_thread(goes_on.wait, 20)
        return visit

    monkeypatch.setattr("boxsched.store.postgres.servers.visited", held_up)
    servers.lose()
    first = asyncio.create_task(asyncio.to_thread(servers.connect_raw, {}))
    await asyncio.to_thread(looked.wait, 20)
    await leader.commit()
    second = asyncio.create_task(servers.connect(10.0))
    await asyncio.wait({second}, timeout=0.5)
    goes_on.set()
    (await first).close()
    (await second).close()
    await store.close()


async def test_a_commit_that_waits_for_a_vanished_primary_is_given_up(
    two: PrimaryAndStandby, tmp_path: Path
) -> None:
    """Its session is silent, as if the machine were gone; the new primary answers.

    A slow commit may take a minute while its own server answers. This one's server does not.
    """
    store = open_store(two.url, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    project = await leader.project()
    await asyncio.to_thread(two.wait_for_second)
    two.hold()
    owed = asyncio.create_task(leader.submit(build(project, "main")))
    backends = await asyncio.to_thread(two.that_wait_for_second)
    for backend in backends:
        os.kill(backend, signal.SIGSTOP)
    try:
        two.first.kill()
        two.let_go()
        await asyncio.to_thread(two.promote)
        async with asyncio.timeout(COMMIT_SECONDS / 2):
            while not owed.done():
                await insisting(store.batch_number, SHARD)
    finally:
        for backend in backends:
            os.kill(backend, signal.SIGKILL)
    with pytest.raises(OutcomeUnknown):
        await owed
    await store.close()
