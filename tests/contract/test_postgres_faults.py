"""Servers that die and networks that cut: answered work is stored, and open outcomes are known as
such."""

import asyncio
import itertools
import os
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Iterator
from pathlib import Path

import pytest

from boxsched.errors import Fenced, Invalid, OutcomeUnknown, StoreAway
from boxsched.protocol.shards import SHARD, Project
from boxsched.store import Store, open_store
from boxsched.store.operating.check import check
from boxsched.store.records import NewWorkload, Submitted
from tests.contract.cutting_proxy import CuttingProxy, proxied
from tests.contract.pooling_proxy import pooled
from tests.contract.postgres_server import PostgresServer, database, served
from tests.contract.store_data import NOW, Leader, build, event, key

GENEROUS_SECONDS = 10.0  # the promised two seconds, on a busy machine


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that the test may kill."""
    with served() as server:
        yield server


@pytest.fixture
def url(server: PostgresServer) -> Iterator[str]:
    with database(server.url("postgres")) as url:
        yield url


@pytest.fixture
async def store(url: str, tmp_path: Path) -> AsyncIterator[Store]:
    store = open_store(url, tmp_path)
    await store.open()
    yield store
    await store.close()


# --- A proxy in between ---------------------------------------------------------------------


@pytest.fixture
async def proxy(server: PostgresServer) -> AsyncIterator[CuttingProxy]:
    async with proxied(server.port) as proxy:
        yield proxy


@pytest.fixture
async def far(
    proxy: CuttingProxy, server: PostgresServer, url: str, tmp_path: Path
) -> AsyncIterator[Leader]:
    """A leader on the other side of the proxy."""
    store = open_store(url.replace(f":{server.port}/", f":{proxy.port}/"), tmp_path / "far")
    await store.open()
    yield await Leader(store).lead()
    await store.close()


@pytest.mark.parametrize("happened", [True, False])
async def test_a_connection_that_breaks_while_committing_leaves_the_outcome_open(
    far: Leader, proxy: CuttingProxy, happened: bool
) -> None:
    batch = far.next_batch(events=(event("x", NOW),))
    if happened:
        proxy.cut_after = b"COMMIT"
    else:
        proxy.cut_before = b"COMMIT"
    with pytest.raises(OutcomeUnknown):
        await far.store.commit(batch)
    proxy.cut_after = proxy.cut_before = None
    epoch, number = await far.store.batch_number(SHARD)
    assert (epoch, number) == (far.epoch, far.batch + happened)
    if happened:
        with pytest.raises(Fenced):
            await far.store.commit(batch)
    else:
        await far.store.commit(batch)
    assert await far.store.last_event(SHARD) == (far.batch + 1, 1)


@pytest.mark.parametrize("happened", [True, False])
async def test_a_submission_of_unknown_outcome_may_be_repeated(
    far: Leader, proxy: CuttingProxy, happened: bool
) -> None:
    project = await far.project()
    group = [build(project, idempotency=key("k"))]
    if happened:
        proxy.cut_after = b"COMMIT"
    else:
        proxy.cut_before = b"COMMIT"
    with pytest.raises(OutcomeUnknown):
        await far.store.submit(group)
    proxy.cut_after = proxy.cut_before = None
    (outcome,) = await far.store.submit(group)
    assert isinstance(outcome, Submitted)
    assert outcome.repeated == happened
    assert outcome.number == 1


async def test_a_connection_that_breaks_before_commit_leaves_no_doubt(
    far: Leader, proxy: CuttingProxy
) -> None:
    project = await far.project()
    proxy.cut_after = b"nextval"
    with pytest.raises(StoreAway) as caught:
        await far.store.submit([build(project)])
    assert type(caught.value) is StoreAway
    proxy.cut_after = None
    assert (await far.submit(build(project))).number == 1


async def _timed(call: Awaitable[object]) -> tuple[object, float]:
    began = time.monotonic()
    try:
        return await call, time.monotonic() - began
    except StoreAway as error:
        return error, time.monotonic() - began


async def test_a_network_that_swallows_everything_makes_calls_fail_in_time(
    far: Leader, proxy: CuttingProxy
) -> None:
    """F5: each call fails within two seconds on a quiet machine, with or without a connection."""
    project = await far.project()
    proxy.silent = True
    for _ in range(3):
        calls = [
            far.store.ping(),
            far.store.commit(far.next_batch()),
            far.store.organization(),
            far.store.raise_epoch(SHARD, "node-1"),
            far.store.shards(),
            *(far.store.submit([build(project)]) for _ in range(20)),
        ]
        answers = await asyncio.gather(*map(_timed, calls))
        assert all(isinstance(answer, StoreAway) for answer, _ in answers), answers
        assert max(took for _, took in answers) < GENEROUS_SECONDS
    proxy.cut()
    proxy.silent = False
    assert await far.store.batch_number(SHARD) == (far.epoch, far.batch)
    assert (await far.submit(build(project))).number == 1


async def test_a_proxy_that_pools_transactions_is_refused(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    async with pooled(server.port, pools_transactions=True) as port:
        with pytest.raises(Invalid, match="pools transactions"):
            await open_store(url.replace(f":{server.port}/", f":{port}/"), tmp_path).open()


async def test_a_proxy_that_pools_sessions_works(
    server: PostgresServer, url: str, tmp_path: Path
) -> None:
    async with pooled(server.port, pools_transactions=False) as port:
        store = open_store(url.replace(f":{server.port}/", f":{port}/"), tmp_path)
        await store.open()
        await Leader(store).lead()
        await store.close()


# --- kill -9 (F6) ---------------------------------------------------------------------------


class Client:
    """Submits, each time under a new key; records which were answered and which were not."""

    def __init__(self, store: Store, project: Project) -> None:
        self.store = store
        self.project = project
        self.answered: dict[str, int] = {}
        self.unknown: set[str] = set()
        self.refused: set[str] = set()
        self._keys = itertools.count(1)
        self._answer = asyncio.Semaphore(0)  # released at each answer

    async def until_answered(self, more: int) -> None:
        async with asyncio.timeout(20):
            for _ in range(more):
                await self._answer.acquire()

    def build(self, used: str) -> NewWorkload:
        return build(self.project, used, idempotency=key(used))

    async def submit(self, name: str) -> None:
        used = f"{name}-{next(self._keys)}"
        try:
            (outcome,) = await self.store.submit([self.build(used)])
        except OutcomeUnknown:
            self.unknown.add(used)
        except StoreAway:
            self.refused.add(used)
            await asyncio.sleep(0.02)
        else:
            assert isinstance(outcome, Submitted)
            self.answered[used] = outcome.id
            self._answer.release()

    async def load(self, name: str, until: asyncio.Event) -> None:
        while not until.is_set():
            await self.submit(name)


async def _lead(store: Store, until: asyncio.Event) -> None:
    """Register what the inbox contains, like an engine without a core."""
    leader = Leader(store)
    while not until.is_set():
        try:
            if leader.epoch == 0:
                await leader.lead(boxes=0)
            await leader.queue_told()
            await asyncio.sleep(0.005)
        except (StoreAway, Fenced):
            leader.epoch = 0
            await asyncio.sleep(0.02)


async def test_confirmed_data_survives_a_killed_server(
    server: PostgresServer, url: str, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    project, _ = await store.put_project("web", "{}", None)
    client, until = Client(store, project), asyncio.Event()
    tasks = [asyncio.create_task(client.load(f"c{i}", until)) for i in range(6)]
    tasks.append(asyncio.create_task(_lead(store, until)))
    for _ in range(3):
        await client.until_answered(40)
        server.kill()
        await asyncio.to_thread(server.start)
    await client.until_answered(40)
    until.set()
    await asyncio.gather(*tasks)

    stored = {w.id for w in await store.unfinished()}
    assert set(client.answered.values()) <= stored, "nothing that was answered is lost"
    for used in client.refused | client.unknown:
        (outcome,) = await store.submit([client.build(used)])
        assert isinstance(outcome, Submitted)
        assert not (outcome.repeated and used in client.refused), "StoreAway: it was not done"
    told = [record for record in caplog.records if record.name == "boxsched.store.outage"]
    assert 1 <= len(told) <= 2 * 3, "when it went and when it came back, whoever missed it"
    total = len(client.answered) + len(client.refused) + len(client.unknown)
    assert len(await store.unfinished()) == total
    assert await check(url) == []


async def test_calls_to_a_frozen_server_fail_in_time_and_work_afterwards(
    server: PostgresServer, store: Store
) -> None:
    leader = await Leader(store).lead()
    backends = _children(server.pid)
    for pid in backends:
        os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(StoreAway):
            await leader.commit()
        assert time.monotonic() - began < GENEROUS_SECONDS
    finally:
        for pid in backends:
            os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(5):
        while True:
            try:
                epoch, batch = await store.batch_number(SHARD)
                break
            except StoreAway:
                await asyncio.sleep(0.05)
    assert epoch == leader.epoch
    assert batch in (leader.batch, leader.batch + 1)


def _children(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found
