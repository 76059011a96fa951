"""The in-process worker beside a slow or failing store: its lease and its levels."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.clock import Clock
from boxsched.engine.stages import Stages
from boxsched.errors import StoreAway
from boxsched.model import WorkerId
from boxsched.node import in_process
from boxsched.node.in_process import LocalWorker
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.workers import IN_PROCESS, Connected, NewWorker, WorkerConnection
from boxsched.secrets.assignment_secrets import AssignmentSecrets
from boxsched.secrets.vault import Vault

PATIENCE_SECONDS = 20.0
ME = WorkerId(3)


@attrs.define
class SlowStore:
    """Each call takes ``seconds`` of the boot clock. ``connections`` are those to refuse."""

    now: float = 1_000.0
    seconds: float = 0.0
    away: bool = False
    refused: set[int] = attrs.field(factory=set)
    connects: int = 0
    beats: list[int] = attrs.field(factory=list)
    levels: list[Sequence[Assignment]] = attrs.field(factory=list)
    asked: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def connect_worker(self, new: NewWorker) -> Connected:
        self.connects += 1
        self.now += self.seconds
        return Connected(WorkerConnection(ME, self.connects), 1, ())

    async def beat(
        self,
        connections: Sequence[WorkerConnection],
        lost_after: float,
        problems: Mapping[int, str],
    ) -> Collection[WorkerId]:
        if self.away:
            raise StoreAway("away for the test")
        self.now += self.seconds
        [mine] = connections
        self.beats.append(mine.number)
        return set() if mine.number in self.refused else {mine.worker}

    async def assignments(self, workers: Sequence[WorkerId]) -> Mapping[WorkerId, Any]:
        self.asked.set()
        return {ME: self.levels.pop(0) if self.levels else ()}

    async def note_ghosts(self, haunted: object) -> Mapping[WorkerId, Any]:
        return {}

    async def append_log(self, chunks: object) -> None: ...
    async def disconnect_workers(self, connections: object) -> None: ...


class Local:
    def __init__(self, store: SlowStore, folder: Path, deadline: bool = True) -> None:
        self.said: list[inbox.Command] = []
        self.heard: list[tuple[float, float]] = []
        self.worker = LocalWorker(
            NewWorker("in", "in", IN_PROCESS, "test", (), lost_after=60.0),
            # type: ignore[arg-type]
            store, AssignmentSecrets(store, Vault(None)), self._say, self._say, Clock(),
            folder=folder / "in", driver="none", log_limit=1_000,
            stop_grace=1.0, cluster="c", lost_after=60.0, deadline=deadline,
            stages=Stages(lambda: 0.0), is_notified=lambda: True,
        )  # fmt: skip
        self.worker.agent.heartbeat_answered = lambda at, lost_after: self.heard.append(
            (at, lost_after)
        )

    async def _say(self, shard: int, command: inbox.Command) -> None:
        self.said.append(command)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> SlowStore:
    store = SlowStore()
    monkeypatch.setattr(in_process, "boottime", lambda: store.now)
    return store


async def test_a_lease_counts_from_the_sending_of_a_heartbeat(
    store: SlowStore, tmp_path: Path
) -> None:
    """The store recorded it at that time at the earliest; counting from the answer would be too
    long."""
    local = Local(store, tmp_path)
    store.seconds = 7.0
    await local.worker.connect()
    await local.worker.start()
    assert local.heard == [(1_000.0, 60.0)], "a connect is a heartbeat, too"
    beating = asyncio.create_task(local.worker.beat())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while len(local.heard) < 2:  # noqa: ASYNC110 (the first one comes at once)
            await asyncio.sleep(0)
    beating.cancel()
    assert local.heard[1] == (1_007.0, 60.0)
    await local.worker.close()


async def test_a_heartbeat_that_the_store_refused_renews_nothing(
    store: SlowStore, tmp_path: Path
) -> None:
    local = Local(store, tmp_path)
    await local.worker.connect()
    store.away = True
    with pytest.raises(StoreAway):
        await local.worker._beat(1_001.0)
    assert local.heard == []


async def test_after_a_refused_heartbeat_the_worker_connects_again(
    store: SlowStore, tmp_path: Path
) -> None:
    local = Local(store, tmp_path)
    await local.worker.connect()
    store.refused, store.seconds = {1}, 7.0
    await local.worker._beat(990.0)
    assert store.connects == 2
    assert local.heard == [(1_007.0, 60.0)], "when the connect was sent"
    [first, second] = local.said
    assert isinstance(first, inbox.BoxesSet) and isinstance(second, inbox.BoxesSet)
    assert (first.connection, second.connection) == (1, 2)
    await local.worker._beat(1_020.0)
    assert store.beats == [1, 2]
    assert local.heard[-1] == (1_020.0, 60.0)


async def test_the_worker_of_the_only_node_has_no_lease(store: SlowStore, tmp_path: Path) -> None:
    local = Local(store, tmp_path, deadline=False)
    await local.worker.connect()
    await local.worker._beat(1_001.0)
    assert local.heard == []


async def test_a_level_that_arrives_during_a_read_causes_another_read(
    store: SlowStore, tmp_path: Path
) -> None:
    """It may be older than the result of the read."""
    local = Local(store, tmp_path)
    await local.worker.connect()
    told: Any = (
        attrs.make_class(
            "Told",
            {
                "started": attrs.field(default=True),
                "owner": attrs.field(default=None),
                "has_secrets": attrs.field(default=False),
            },
        )(),
    )
    local.worker.look(told)
    assert await local.worker._desired(ME) is told
    assert not store.asked.is_set(), "what was told is taken as it is"
    local.worker._reads = True
    local.worker.look(told)
    local.worker._reads = False
    assert await local.worker._desired(ME) == ()
    assert store.asked.is_set()
