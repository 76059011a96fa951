"""With a real engine: jobs are sent, reports arrive, and the next jobs are sent."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

import attrs

from boxsched.clock import Clock
from boxsched.engine.engine import Engine
from boxsched.engine.stages import Stages
from boxsched.engine.tally import Counters
from boxsched.model import WorkerId, WorkloadId
from boxsched.protocol import inbox, wire
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Event
from boxsched.protocol.shards import SHARD
from boxsched.store.records import NewWorkload, Submitted
from tests.contract.store_data import build, spec
from tests.gateway.harness import PATIENCE_SECONDS, FakeWorker, GatewayHarness, passed, started


@contextlib.asynccontextmanager
async def led(harness: GatewayHarness) -> AsyncIterator[Engine]:
    """Run an engine that leads the harness's shard and wakes for the gateway's requests."""
    harness.committed = asyncio.Event()

    def published(batch: int, events: Sequence[Event]) -> None:
        harness.committed.set()

    def notify(places: Mapping[WorkerId, str], level: Sequence[Assignment] | None) -> None:
        harness.gateway.look(places.keys())

    engine = Engine(
        harness.store, Clock(), shard=SHARD, node="node-1", may_lead=lambda: True,
        published=published, reloaded=lambda: None, due=lambda: None, notify=notify,
        local=lambda: None, alive=lambda node: True, lost_after=120.0, stop_grace=10.0, required={},
        counters=Counters(), stages=Stages(Clock().monotonic),
    )  # fmt: skip
    harness.woken = engine.wake
    running = asyncio.create_task(engine.run())
    try:
        yield engine
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def submit(harness: GatewayHarness, count: int) -> list[WorkloadId]:
    project = await harness.leader.project()
    group: list[NewWorkload] = [
        attrs.evolve(build(project, f"branch {n}", jobs=(spec(),)), created_at=Clock().now())
        for n in range(count)
    ]
    outcomes = await harness.store.submit(group)
    harness.woken()
    return [outcome.id for outcome in outcomes if isinstance(outcome, Submitted)]


class PassingWorker:
    """A fake worker on which every job passes at once."""

    def __init__(self, worker: FakeWorker) -> None:
        self.worker = worker
        self.seen: set[tuple[int, int]] = set()
        self.unanswered: dict[int, wire.Said] = {}
        self.stale = 0

    async def run(self) -> None:
        number = 0
        while True:
            text = await self.worker.socket.receive_str()
            message = wire.from_node.decode(text)
            if isinstance(message, wire.Ack):
                del self.unanswered[message.number]
                self.stale += len(message.stale)
            if not isinstance(message, wire.Level):
                continue
            new = [t for t in message.tasks if (t.job, t.lease_token) not in self.seen]
            if not new:
                continue
            self.seen |= {(task.job, task.lease_token) for task in new}
            number += 1
            now = Clock().now()
            reports = tuple(r for t in new for r in (started(t, now), passed(t, now)))
            said = self.unanswered[number] = wire.Said(number, reports)
            await self.worker.say(said)


async def until_finished(harness: GatewayHarness, workloads: list[WorkloadId]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        harness.committed.clear()
        while await harness.store.unfinished():
            await harness.committed.wait()
            harness.committed.clear()
    last = await harness.store.workload(workloads[-1])
    assert last is not None
    assert last.result == "passed"


async def test_jobs_are_sent_and_their_reports_arrive(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path) as harness, led(harness):
        players = [PassingWorker(await harness.worker(f"w{n}", boxes=8)) for n in range(2)]
        tasks = [asyncio.create_task(player.run()) for player in players]
        workloads = await submit(harness, 200)
        await until_finished(harness, workloads)
        assert sum(len(player.seen) for player in players) == 200
        assert [player.stale for player in players] == [0, 0]
        assert harness.gateway.figures.reports == 400
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_worker_that_reconnects_repeats_what_was_not_answered(tmp_path: Path) -> None:
    async with GatewayHarness.open(tmp_path) as harness, led(harness):
        worker = await harness.worker(boxes=1)
        (workload,) = await submit(harness, 1)
        (task,) = (await worker.level()).tasks
        await worker.socket.close()
        again = await harness.dial()
        await again.hello(boxes=1)
        await again.next(wire.Welcome)
        (same,) = (await again.level()).tasks
        assert (same.job, same.lease_token) == (task.job, task.lease_token)
        reports: tuple[inbox.JobStarted | inbox.JobFinished, ...]
        reports = (started(same, Clock().now()), passed(same, Clock().now()))
        assert (await again.said(*reports)).stale == ()
        assert (await again.level()).tasks == ()
        assert (await again.said(*reports)).stale == ((task.job, task.lease_token),) * 2
        await until_finished(harness, [workload])
