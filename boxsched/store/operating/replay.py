"""Replay the history: it must obey the invariants and end with the state in the tables."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import msgspec

from boxsched.model import JobId, WorkloadId, job_id, job_workload, short_name
from boxsched.store.blocks import Block, Row, load
from boxsched.store.mapping import mapper

SQL = load("replay.sql")

# Which event may follow which, for one workload and for one job (V3); None = no event yet. A
# workload ends without having been registered if its submission was set aside.
WORKLOAD_FOLLOWS: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"workload.registered", "workload.finished"}),
    "workload.registered": frozenset({"workload.queued", "workload.finished"}),
    "workload.queued": frozenset({"workload.started", "workload.finished"}),
    "workload.started": frozenset({"workload.stopping", "workload.finished"}),
    "workload.stopping": frozenset({"workload.stopping", "workload.finished"}),
    "workload.finished": frozenset(),
}
JOB_FOLLOWS: Mapping[str | None, frozenset[str]] = {
    None: frozenset({"job.started", "job.unknown", "job.resolved", "job.retried", "job.finished"}),
    "job.started": frozenset({"job.unknown", "job.resolved", "job.retried", "job.finished"}),
    "job.unknown": frozenset(
        {
            "job.started",
            "job.seen_again",
            "job.given_again",
            "job.unknown",
            "job.not_begun",
            "job.resolved",
            "job.restored",
            "job.finished",
        }
    ),
    "job.not_begun": frozenset(
        {"job.given_again", "job.unknown", "job.resolved", "job.restored", "job.finished"}
    ),
    "job.seen_again": frozenset(
        {"job.started", "job.unknown", "job.resolved", "job.retried", "job.finished"}
    ),
    "job.resolved": frozenset({"job.given_again", "job.resolved", "job.restored", "job.finished"}),
    "job.given_again": frozenset(
        {
            "job.started",
            "job.unknown",
            "job.resolved",
            "job.restored",
            "job.retried",
            "job.finished",
        }
    ),
    "job.restored": frozenset({"job.unknown", "job.resolved", "job.retried", "job.finished"}),
    "job.retried": frozenset(
        {
            "job.started",
            "job.unknown",
            "job.resolved",
            "job.restored",
            "job.retried",
            "job.finished",
        }
    ),
    "job.finished": frozenset(),
}
# The events that allow another attempt of a deploy or a session, directly before it.
ANOTHER_ATTEMPT = ("job.resolved", "job.not_begun")
COMMIT_FIXED = "workload.commit"
# Events that do not change the state: jobs were planned, the priority changed, or it is spared.
MOVE_NOTHING = ("workload.planned", "workload.prioritized", "workload.spared")
# Events after which a worker gets no jobs, and the events that end that.
WITHHELD_UNTIL: Mapping[str, str] = {
    "worker.draining": "worker.drain_ended",
    "worker.incompatible": "worker.compatible",
}
STATE_AFTER: Mapping[str, str] = {
    "workload.registered": "registered",
    "workload.queued": "queued",
    "workload.started": "running",
    "workload.stopping": "stopping",
    "workload.finished": "finished",
}


class _EventData(msgspec.Struct):
    """The fields of an event's data that the replay reads."""

    boxes_taken: list[str] = []
    capacity: dict[str, int] = {}
    project: str | None = None
    box: str | None = None
    attempt: int = 0
    worker: str = ""
    by: str | None = None


_event_data = msgspec.json.Decoder(_EventData)


class ReplayEntry(NamedTuple):
    """A row of ``history``."""

    shard: int
    batch: int
    n: int
    type: str
    workload: int | None
    job: int | None
    data: str
    lane: str | None
    number: int | None
    project: int | None
    boxes: int | None
    kind: str | None
    cut: bool | None  # whether the first events of its workload were deleted
    home: int | None


class Shard(NamedTuple):
    """A shard. ``plan`` applies to decisions after the batch ``since``."""

    batch: int
    since: int
    plan: int | None


_shard = mapper(
    Shard,
    SQL["shards"].returns,
    unused=("id",),
    columns_of={"since": "epoch_batch", "plan": "max_boxes"},
)
_shard_id = SQL["shards"].column("id")
_entry = mapper(ReplayEntry, SQL["history"].returns)
_NO_SHARD = Shard(0, 0, None)


Broken = tuple[str, Row]  # the violated invariant, and the row
Query = Callable[[Block], Iterable[Row]]  # returns rows one by one, because the history may be long

EVENTS_A_STEP = 20_000  # between two progress messages


class Replay:
    """Reads the history once, in order; ``on_progress`` is called with each step."""

    def __init__(self, query: Query, on_progress: Callable[[str], None]) -> None:
        self._query = query
        self._step = on_progress
        self._shards: dict[int, Shard] = {}
        self._last: tuple[object, ...] = ()  # the place of the previous event
        self._workloads: dict[int, str] = {}
        self._jobs: dict[int, str] = {}
        self._attempts: dict[int, int] = {}  # attempts of jobs that were assigned again
        self._lanes: dict[str, tuple[int, int]] = {}  # who has left phase 1: workload, number
        self._last_number: dict[str, int] = {}
        self._boxes: dict[str, int] = {}  # which job is on a Box
        self._held: dict[int, str] = {}  # which Box a job has
        self._in_use: Counter[int] = Counter()  # Boxes of each shard
        self._used: Counter[int] = Counter()  # Boxes in use of each project
        self._worker_of: dict[str, str] = {}  # of each Box that there still is
        # Workers that get no jobs, and the events that end that.
        self._withheld: set[tuple[str, str]] = set()
        self._project_of: dict[int, int] = {}
        self._limits: dict[int, int] = {}  # by project, if it has a limit
        # Boxes in use of such a project behind each admission since its last change.
        self._uses: dict[int, list[tuple[str, int | None, int]]] = {}

    def run(self) -> Iterator[Broken]:
        ids: dict[tuple[int, str], int] = {}  # by shard and name
        self._shards = {_shard_id(row): _shard(row) for row in self._query(SQL["shards"])}
        for id_, shard, name, limit in self._query(SQL["projects"]):
            ids[shard, short_name(name)] = id_
            if limit is not None:
                self._limits[id_] = limit
        self._worker_of = {str(id_): str(worker) for id_, worker in self._query(SQL["boxes"])}
        for count, row in enumerate(self._query(SQL["history"])):
            entry = _entry(row)
            if count % EVENTS_A_STEP == 0:
                self._step(f"the history: {count:,} events")
            if entry.type == "project.changed":
                changed = entry.shard, _event_data.decode(entry.data).project or ""
                self._uses.pop(ids.get(changed, 0), None)
            for what in self._entry(entry):
                yield what, (_place(entry), entry.type, entry.workload, entry.job)
        yield from self._project_limits()
        yield from self._ends()

    def _entry(self, entry: ReplayEntry) -> Iterator[str]:
        last, self._last = self._last, entry[:3]
        if entry.n != 1 and last != (entry.shard, entry.batch, entry.n - 1):
            yield "I7: an event is missing before this one in its batch"
        if entry.batch > self._shards.get(entry.shard, _NO_SHARD).batch:
            yield "I7: an event has a batch that its shard has not committed"
        if entry.home is not None and entry.home != entry.shard:
            yield "I7: an event in another shard than its workload"
        if entry.job is not None:
            yield from self._job(entry, entry.job)
        elif entry.workload is not None:
            yield from self._workload(entry, entry.workload)
        elif entry.type.startswith("worker."):
            self._worker(entry)

    def _worker(self, entry: ReplayEntry) -> None:
        worker = _event_data.decode(entry.data).worker
        if entry.type in WITHHELD_UNTIL:
            self._withheld.add((worker, WITHHELD_UNTIL[entry.type]))
        self._withheld.discard((worker, entry.type))

    def _job(self, entry: ReplayEntry, job: int) -> Iterator[str]:
        before = self._jobs.get(job)
        if not _begins(entry, before) and entry.type not in JOB_FOLLOWS[before]:
            yield "V3, V4, V5: a job's event must not follow the previous one"
        self._jobs[job] = entry.type
        if entry.type == "job.finished":
            self._freed(entry, job)
        elif entry.type == "job.restored":
            yield from self._restored(entry, job)
        elif entry.type == "job.retried":
            yield from self._retried(entry, job)
        elif entry.type == "job.given_again":
            asked = before in ANOTHER_ATTEMPT or _begins(entry, before)
            yield from self._given_again(entry, job, asked=asked)

    def _freed(self, entry: ReplayEntry, job: int) -> None:
        box = self._held.pop(job, None)
        if box is not None and self._boxes.get(box) == job:
            del self._boxes[box]
            self._in_use[entry.shard] -= 1
            self._used[self._project_of[job_workload(JobId(job))]] -= 1

    def _given_again(self, entry: ReplayEntry, job: int, *, asked: bool) -> Iterator[str]:
        """Check a repeated assignment. For deploys and sessions it must have been ``asked`` for."""
        started = _event_data.decode(entry.data)
        if entry.kind != "build" and not asked:
            yield "I9: a job of a deploy or session was assigned again"
        attempt = self._attempts.get(job, started.attempt - 1 if entry.cut else 1)
        if started.attempt != attempt + 1:
            yield "I4, V5: an attempt does not follow the previous one"
        self._attempts[job] = started.attempt
        self._freed(entry, job)
        yield from self._taken(entry, job, started.box or "")

    def _retried(self, entry: ReplayEntry, job: int) -> Iterator[str]:
        """Check that the next attempt is in the same Box."""
        retried = _event_data.decode(entry.data)
        last = self._attempts.get(job, retried.attempt - 1 if entry.cut else 1)
        if retried.attempt != last + 1:
            yield "I4, V5: an attempt does not follow the previous one"
        self._attempts[job] = retried.attempt
        if self._held.get(job, retried.box) != retried.box:
            yield "V10: a job was retried in another Box"

    def _restored(self, entry: ReplayEntry, job: int) -> Iterator[str]:
        """Check that an earlier or the last attempt continues, on the same worker (V22)."""
        restored = _event_data.decode(entry.data)
        last = self._attempts.get(job, restored.attempt if entry.cut else 1)
        if not 0 < restored.attempt <= last:
            yield "V22: an attempt was restored that was never given"
        self._attempts[job] = restored.attempt
        if not restored.by:
            yield "V22: a ghost was restored without a person's word"

    def _taken(self, entry: ReplayEntry, job: int, box: str) -> Iterator[str]:
        if box in self._boxes:
            yield "I1, V10: a Box that runs another job was assigned"
        else:
            self._in_use[entry.shard] += 1
        worker = self._worker_of.get(box, "")
        if any((worker, until) in self._withheld for until in WITHHELD_UNTIL.values()):
            yield "V21: a Box of a draining or incompatible worker was assigned"
        self._boxes[box] = job
        self._held[job] = box
        self._project_of[job_workload(JobId(job))] = entry.project or 0
        self._used[entry.project or 0] += 1

    def _workload(self, entry: ReplayEntry, workload: int) -> Iterator[str]:
        before = self._workloads.get(workload)
        if _begins(entry, before):
            before = _before(entry.type)
        if entry.type == COMMIT_FIXED:
            if before not in ("workload.started", "workload.stopping"):
                yield "V3: a commit was found for a workload that does not run"
            return
        if entry.type in MOVE_NOTHING:
            if before in (None, "workload.finished"):
                yield "V3, V4: a workload's event must not follow the previous one"
            return
        if entry.type not in WORKLOAD_FOLLOWS[before]:
            yield "V3, V4: a workload's event must not follow the previous one"
        self._workloads[workload] = entry.type
        if entry.type == "workload.queued":
            yield from self._queued(entry, workload)
        elif entry.type == "workload.started":
            yield from self._started(entry, workload)
        elif entry.type == "workload.finished":
            if entry.lane is not None and self._lanes.get(entry.lane, (0, 0))[0] == workload:
                del self._lanes[entry.lane]
            if any(job in self._held for job in _jobs_of(entry, workload)):
                yield "V10, V16: a workload ended that still has a Box"

    def _queued(self, entry: ReplayEntry, workload: int) -> Iterator[str]:
        lane, number = entry.lane, entry.number or 0
        if lane is None:
            return
        if lane in self._lanes:
            yield "I3, V7: two workloads of one lane have left phase 1"
        if number <= self._last_number.get(lane, 0):
            yield "I3, V8: a lane's order was violated"
        self._lanes[lane] = (workload, number)
        self._last_number[lane] = number

    def _started(self, entry: ReplayEntry, workload: int) -> Iterator[str]:
        admitted = _event_data.decode(entry.data)
        project = entry.project or 0
        self._project_of[workload] = project
        if len(admitted.boxes_taken) != entry.boxes:
            yield "I2, V11: a workload was only partly admitted"
        for job, box in zip(_jobs_of(entry, workload), admitted.boxes_taken, strict=False):
            yield from self._taken(entry, job, box)
        shard = self._shards.get(entry.shard, _NO_SHARD)
        over = shard.plan is not None and self._in_use[entry.shard] > shard.plan
        if over and entry.batch > shard.since:
            yield "I1: the plan was exceeded"
        if admitted.capacity and admitted.capacity["busy"] > admitted.capacity["total"]:
            yield "I1, V10: more Boxes were busy than existed"
        if project in self._limits:
            use = (_place(entry), entry.workload, self._used[project])
            self._uses.setdefault(project, []).append(use)

    def _project_limits(self) -> Iterator[Broken]:
        for project, uses in self._uses.items():
            for place, workload, used in uses:
                if used > self._limits[project]:
                    yield "I1: a project's limit was exceeded", (place, workload, used)

    def _ends(self) -> Iterator[Broken]:
        for id_, state, cut in self._query(SQL["states"]):
            replayed = STATE_AFTER.get(self._workloads.get(id_, ""))
            if replayed != state and not (cut and replayed is None):
                yield (
                    "V3: the last state in the history differs from the table",
                    (id_, replayed, state),
                )


def _begins(entry: ReplayEntry, before: str | None) -> bool:
    """Whether it is the first event of a workload whose earlier events were deleted."""
    return before is None and bool(entry.cut)


def _before(type_: str) -> str | None:
    """Return an event that may precede one of this type."""
    if type_ == COMMIT_FIXED:
        return "workload.started"
    if type_ in MOVE_NOTHING:
        return "workload.registered"
    return next((one for one, next_ in WORKLOAD_FOLLOWS.items() if type_ in next_), None)


def _jobs_of(entry: ReplayEntry, workload: int) -> list[JobId]:
    return [job_id(WorkloadId(workload), index) for index in range(entry.boxes or 0)]


def _place(entry: ReplayEntry) -> str:
    return f"{entry.shard}.{entry.batch}.{entry.n}"
