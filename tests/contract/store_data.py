"""Data for the store's tests: submissions, and batches as an engine would commit them."""

import itertools
import json
from collections.abc import Sequence

import attrs

from boxsched.model import BoxId, Cancellation, JobId, Kind, ProjectId, WorkerId, WorkloadId, job_id
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import (
    Batch,
    BoxChange,
    DurationChange,
    Event,
    JobChange,
    WorkloadChange,
)
from boxsched.protocol.shards import PAGE_WORKLOADS, SHARD, LoadedWorkload, Project, ShardState
from boxsched.protocol.workers import BoxRow, NewWorker
from boxsched.states import JobState, Result, State, StopCause
from boxsched.store.records import IdempotencyKey, JobSpec, NewWorkload, Submitted
from boxsched.store.store import Store

NOW = 1_760_000_000.123457
_nothing = Batch(SHARD, 0, 0, (), (), (), (), (), (), (), (), (), ())


def spec(name: str = "test", timeout: float = 3600.0) -> JobSpec:
    return JobSpec(name, "default", timeout, ("make test",), {"CI": "true"})


def build(project: Project, branch: str | None = "main", **changes: object) -> NewWorkload:
    new = NewWorkload(
        project=project.id,
        project_version=project.version,
        kind=Kind.BUILD,
        branch=branch,
        tag=None,
        server=None,
        commit="0123abc",
        message="Mend it",
        author="Ada",
        priority=50,
        cancellation=Cancellation.NONE,
        fail_fast=False,
        jobs=(spec(),),
        created_at=NOW,
    )
    return attrs.evolve(new, **changes)  # type: ignore[arg-type]


def deploy(project: Project, server: str = "production", **changes: object) -> NewWorkload:
    return build(project, None, kind=Kind.DEPLOY, server=server, **changes)


def session(project: Project, **changes: object) -> NewWorkload:
    return build(project, kind=Kind.SSH, public_key="ssh-ed25519 AAAA", **changes)


def key(name: str, body: str = "a") -> IdempotencyKey:
    return IdempotencyKey("token-1 /builds", name, body * 64)


class Loaded:
    """A shard as ``Store.load`` returns it."""

    def __init__(self) -> None:
        self.states: list[ShardState] = []
        self.workloads: list[LoadedWorkload] = []
        self.pages: list[int] = []

    @property
    def state(self) -> ShardState:
        (state,) = self.states
        return state

    def begin(self, state: ShardState) -> None:
        assert self.workloads == []
        self.states.append(state)

    def add(self, workloads: Sequence[LoadedWorkload]) -> None:
        assert 0 < len(workloads) <= PAGE_WORKLOADS
        assert self.state is not None
        self.workloads += workloads
        self.pages.append(len(workloads))


async def loaded(store: Store, shard: int = SHARD) -> Loaded:
    into = Loaded()
    await store.load(shard, into)
    return into


def worker(whose: str = "w", *box_types: str, **changes: object) -> NewWorker:
    new = NewWorker(f"{whose}'s own", whose, "here", "node-1", box_types)
    return attrs.evolve(new, **changes)  # type: ignore[arg-type]


class Leader:
    """A leader that uses a store; every step is one batch."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.epoch = 0
        self.batch = 0
        self.boxes: tuple[BoxRow, ...] = ()
        self.worker = WorkerId(0)
        self._seconds = itertools.count(1)

    async def lead(self, boxes: int = 4) -> "Leader":
        self.epoch = await self.store.raise_epoch(SHARD, "node-1")
        epoch, self.batch = await self.store.batch_number(SHARD)
        assert epoch == self.epoch
        if boxes:
            types = ("default",) * boxes
            connected = await self.store.connect_worker(worker("w", *types))
            self.worker, self.boxes = connected.connection.worker, connected.boxes
            freed = tuple(BoxChange(box.id, None, None, None, NOW) for box in self.boxes)
            await self.commit(freed=freed)
        return self

    def now(self) -> float:
        return NOW + next(self._seconds)

    async def commit(self, **parts: object) -> None:
        await self.store.commit(self.next_batch(**parts))
        self.batch += 1

    def next_batch(self, **parts: object) -> Batch:
        return attrs.evolve(  # type: ignore[misc]
            _nothing, epoch=self.epoch, batch=self.batch, **parts
        )

    async def project(self, name: str = "web", settings: str = "{}") -> Project:
        project, _ = await self.store.put_project(name, settings, None)
        return project

    async def submit(self, new: NewWorkload) -> Submitted:
        (outcome,) = await self.store.submit([new])
        assert isinstance(outcome, Submitted)
        return outcome

    async def assignments(self) -> list[Assignment]:
        return (await self.store.assignments([self.worker]))[self.worker]

    async def take_inbox(self) -> tuple[int, ...]:
        return tuple(entry.id for entry in await self.store.inbox(SHARD, 1000))

    async def queue_told(self) -> None:
        """Register and queue every workload in the inbox, like an engine without a core."""
        entries = await self.store.inbox(SHARD, 1000)
        told = [inbox.read(entry.kind, entry.payload) for entry in entries]
        now = self.now()
        ids = [WorkloadId(each.workload) for each in told if isinstance(each, inbox.Submit)]
        await self.commit(
            inbox=tuple(entry.id for entry in entries),
            workloads=tuple(queued(id_, now) for id_ in ids),
            events=tuple(
                event(kind, now, id_)
                for id_ in ids
                for kind in ("workload.registered", "workload.queued")
            ),
        )

    async def queue(self, *workloads: WorkloadId) -> float:
        """Take the workload from the inbox and move it past ordering."""
        now = self.now()
        await self.commit(
            inbox=await self.take_inbox(),
            workloads=tuple(queued(workload, now) for workload in workloads),
            events=tuple(
                event(kind, now, workload)
                for workload in workloads
                for kind in ("workload.registered", "workload.queued")
            ),
        )
        return now

    async def start(self, workload: WorkloadId, *boxes: int) -> float:
        """Give the workload's jobs these Boxes, in order."""
        now = self.now()
        places = list(enumerate(boxes))
        await self.commit(
            workloads=(running(workload, now),),
            jobs=tuple(
                assigned(job_id(workload, i), self.boxes[box].id, self.batch + 1)
                for i, box in places
            ),
            taken=tuple(
                BoxChange(self.boxes[box].id, job_id(workload, i), None, None, NOW)
                for i, box in places
            ),
            events=(
                event(
                    "workload.started",
                    now,
                    workload,
                    boxes_taken=[str(self.boxes[box].id) for _, box in places],
                    capacity={"total": len(self.boxes), "busy": len(places)},
                ),
            ),
        )
        return now

    async def finish(
        self,
        workload: WorkloadId,
        *boxes: int,
        result: Result = Result.PASSED,
        durations: tuple[DurationChange, ...] = (),
    ) -> float:
        now = self.now()
        project = ProjectId(1)
        places = list(enumerate(boxes))
        token = self.batch
        await self.commit(
            ended=(finished(workload, now, result),),
            jobs=tuple(
                ended(job_id(workload, i), self.boxes[box].id, token, now, result)
                for i, box in places
            ),
            freed=tuple(
                BoxChange(self.boxes[box].id, None, project, "main", now) for _, box in places
            ),
            durations=durations,
            events=(
                *(
                    event("job.finished", now, workload, job_id(workload, i), result=result)
                    for i, _ in places
                ),
                event("workload.finished", now, workload, result=result),
            ),
        )
        return now


def queued(workload: WorkloadId, at: float) -> WorkloadChange:
    return WorkloadChange(workload, State.QUEUED, None, None, at, None, None)


def running(workload: WorkloadId, at: float) -> WorkloadChange:
    return WorkloadChange(workload, State.RUNNING, None, None, at, at, None)


def stopping(workload: WorkloadId, at: float) -> WorkloadChange:
    return WorkloadChange(workload, State.STOPPING, None, StopCause.ASKED, at, at, None)


def finished(workload: WorkloadId, at: float, result: Result = Result.PASSED) -> WorkloadChange:
    if result is Result.CANCELED:
        return WorkloadChange(workload, State.FINISHED, result, None, None, None, at)
    return WorkloadChange(workload, State.FINISHED, result, None, at - 1, at - 1, at)


def assigned(job: JobId, box: BoxId, token: int) -> JobChange:
    return JobChange(job, JobState.ASSIGNED, None, box, 1, token, None, None, None, None)


def ended(job: JobId, box: BoxId, token: int, at: float, result: Result) -> JobChange:
    status = 0 if result is Result.PASSED else 1
    return JobChange(job, JobState.FINISHED, result, box, 1, token, at - 1, at, status, None)


def event(
    type_: str,
    at: float,
    workload: WorkloadId | None = None,
    job: JobId | None = None,
    **data: object,
) -> Event:
    body = json.dumps({"type": type_, "at": at, "workload": f"w{workload}", **data})
    return Event(type_, at, workload, job, body.encode())


def stop(workload: WorkloadId) -> tuple[str, bytes]:
    return inbox.written(inbox.Stop(workload, "ada"))
