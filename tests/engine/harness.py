"""A whole engine over a real SQLite store, with a held clock."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from boxsched.engine.engine import Engine
from boxsched.engine.stages import Stages
from boxsched.engine.tally import Counters
from boxsched.engine.why import WhyReport, explain, sentences
from boxsched.model import (
    Cancellation,
    JobId,
    Kind,
    ProjectId,
    WorkerId,
    WorkloadId,
    default_priority,
)
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Event, StoredEvent
from boxsched.protocol.retries import Retries
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Connected, NewWorker
from boxsched.states import Result
from boxsched.store import open_store
from boxsched.store.operating.check import check
from boxsched.store.records import JobSpec, NewWorkload, Submitted, Workload
from boxsched.store.store import Store


class HeldClock:
    def __init__(self, now: float = 1_000_000.0) -> None:
        self.time = now
        self.step = 0.0  # how far the wall clock was set

    def now(self) -> float:
        return self.time + self.step

    def monotonic(self) -> float:
        return self.time

    def not_before(self, time: float) -> None:
        self.step += max(0.0, time - self.now())


class EngineHarness:
    """Submits, reports and runs turns; ``events`` are all events that were published."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.clock = HeldClock()
        self.events: list[StoredEvent] = []
        self.publish: Callable[[int, Sequence[Event]], None] = lambda batch, events: None
        self.told: dict[WorkerId, str] = {}  # the workers that were notified, and their nodes
        self.dues = 0  # how often the node was notified of builds to deploy or to plan
        self.gone: set[str] = set()  # nodes
        self.broken = False  # the test broke an invariant
        self.projects: dict[str, tuple[ProjectId, int]] = {}
        self.worker = WorkerId(0)
        self.first: Connected | None = None
        self.began: dict[JobId, float] = {}
        self.required: Mapping[str, str] = {}  # of workers' fingerprints, by the next engine
        self.engine = self._engine()

    @classmethod
    async def open(cls, folder: Path, boxes: int) -> "EngineHarness":
        store = open_store(f"sqlite:///{folder / 'harness.sqlite'}", folder)
        await store.open()
        harness = cls(store, folder)
        await harness.connect(boxes)
        await harness.engine.load()
        await harness.settle()
        return harness

    def _notify(self, places: Mapping[WorkerId, str], level: Sequence[Assignment] | None) -> None:
        self.told.update(places)

    def _due(self) -> None:
        self.dues += 1

    def _engine(self) -> Engine:
        return Engine(
            self.store, self.clock, shard=SHARD, node="test", may_lead=lambda: True,
            published=self._published, reloaded=lambda: None, due=self._due, notify=self._notify,
            local=lambda: None,
            alive=lambda node: node not in self.gone, lost_after=120.0, stop_grace=10.0,
            required=self.required,
            counters=Counters(), stages=Stages(self.clock.monotonic),
        )  # fmt: skip

    def _published(self, batch: int, events: Sequence[Event]) -> None:
        self.events += [
            StoredEvent(SHARD, batch, n, e.type, e.data) for n, e in enumerate(events, 1)
        ]
        self.publish(batch, events)

    async def close(self) -> None:
        """Check every invariant at the end, unless the test broke one itself."""
        await self.store.close()
        assert self.broken or not await check(f"sqlite:///{self.folder / 'harness.sqlite'}")

    async def restart(self) -> None:
        """Start another engine on the same store."""
        self.engine = self._engine()
        await self.engine.load()

    async def connect(
        self,
        boxes: int,
        lost_after: float | None = None,
        stop_grace: float | None = None,
        fingerprint: str = "",
    ) -> Connected:
        new = NewWorker(
            "w", "w", "here", "test", ("default",) * boxes,
            lost_after=lost_after, stop_grace=stop_grace, fingerprint=fingerprint,
        )  # fmt: skip
        connected = await self.store.connect_worker(new)
        self.worker = connected.connection.worker
        self.first = connected
        rows = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
        number = connected.connection.number
        said = inbox.BoxesSet(self.worker, rows, "test", number, None, "w", fingerprint)
        await self.ask(said)
        return connected

    async def ask(self, command: inbox.Command) -> None:
        await self.store.ask(SHARD, [inbox.written(command)])

    async def settle(self) -> None:
        while await self.engine.step():
            pass

    async def project(self, name: str, max_boxes: int | None = None) -> None:
        project, _ = await self.store.put_project(name, "{}", max_boxes)
        self.projects[name] = (project.id, project.version)

    def new(
        self,
        project: str = "web",
        *,
        branch: str | None = "main",
        server: str | None = None,
        jobs: int = 1,
        priority: int | None = None,
        cancellation: Cancellation = Cancellation.NONE,
        fail_fast: bool = False,
        timeout: float = 60.0,
        box_types: Sequence[str] = (),
        retry: Retries | None = None,
    ) -> NewWorkload:
        """``box_types``: one per job, if not all are "default"."""
        id_, version = self.projects[project]
        kind = Kind.DEPLOY if server else Kind.BUILD
        return NewWorkload(
            project=id_, project_version=version, kind=kind,
            branch=None if server else branch, tag=None, server=server,
            commit=None, message=None, author=None,
            priority=default_priority(kind, branch, ()) if priority is None else priority,
            cancellation=cancellation, fail_fast=fail_fast,
            jobs=tuple(
                JobSpec(f"j{n}", box_type, timeout, ("true",), {}, retry=retry)
                for n, box_type in enumerate(box_types or ("default",) * jobs)
            ),
            created_at=self.clock.now(),
        )  # fmt: skip

    async def submit(self, *new: NewWorkload) -> list[WorkloadId]:
        outcomes = await self.store.submit(new)
        assert all(isinstance(o, Submitted) for o in outcomes), outcomes
        return [o.id for o in outcomes if isinstance(o, Submitted)]

    async def build(self, **asked: object) -> WorkloadId:
        (id_,) = await self.submit(self.new(**asked))  # type: ignore[arg-type]
        await self.settle()
        return id_

    async def stop(self, workload: WorkloadId) -> None:
        await self.ask(inbox.Stop(workload, "someone"))
        await self.settle()

    async def assignments(self) -> list[Assignment]:
        return (await self.store.assignments([self.worker]))[self.worker]

    async def report(self, *reports: inbox.JobStarted | inbox.JobFinished) -> None:
        await self.ask(inbox.Reports(self.worker, reports))
        await self.settle()

    async def start(self, assignments: Sequence[Assignment]) -> None:
        self.began |= {a.job: self.clock.now() for a in assignments}
        await self.report(
            *(inbox.JobStarted(a.job, a.lease_token, self.clock.now()) for a in assignments)
        )

    async def finish(
        self, assignment: Assignment, result: Result = Result.PASSED, token: int | None = None
    ) -> None:
        """The duration is measured from ``start``, as a supervisor does."""
        token = assignment.lease_token if token is None else token
        now = self.clock.now()
        began = self.began.get(assignment.job)
        seconds = None if began is None else now - began
        await self.report(
            inbox.JobFinished(assignment.job, token, now, result, 0, None, seconds=seconds)
        )

    def why(self, workload: WorkloadId) -> WhyReport | None:
        assert self.engine.books is not None
        return explain(self.engine.books, workload, self.clock.now())

    def reasons(self) -> dict[WorkloadId, str]:
        assert self.engine.books is not None
        said = sentences(self.engine.books, self.clock.now())
        known = self.engine.books.workloads
        return {id_: text for id_, live in known.items() if (text := said(id_, live.state))}

    async def another_worker(self, name: str, boxes: int, box_type: str = "default") -> Connected:
        """Connect a second worker."""
        new = NewWorker(name, name, "there", "test", (box_type,) * boxes)
        connected = await self.store.connect_worker(new)
        rows = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
        worker, number = connected.connection.worker, connected.connection.number
        await self.ask(inbox.BoxesSet(worker, rows, "test", number))
        await self.settle()
        return connected

    async def later(self, seconds: float, *heard: Connected) -> None:
        """Advance the clock second by second; only these workers send heartbeats."""
        for _ in range(int(seconds)):
            self.clock.time += 1.0
            await self.store.beat([one.connection for one in heard])
            await self.settle()

    async def look(self, workload: WorkloadId) -> Workload:
        found = await self.store.workload(workload)
        assert found is not None
        return found

    async def running(self) -> set[JobId]:
        return {a.job for a in await self.assignments()}


LONG = 3_600.0


def told(harness: EngineHarness, after: int = 0) -> list[dict[str, Any]]:
    return [msgspec.json.decode(event.data) for event in harness.events[after:]]


async def begun(harness: EngineHarness, **asked: object) -> Any:
    """Start a workload whose jobs all run."""
    id_ = await harness.build(**{"timeout": LONG, **asked})
    await harness.start([a for a in await harness.assignments() if a.workload == id_])
    return await harness.look(id_)
