"""Reads for API and page: workloads with their jobs, and the history of events."""

from collections.abc import Sequence

import attrs

from boxsched.model import (
    JobId,
    Kind,
    OrganizationId,
    WorkloadId,
    full_name,
    job_id,
    job_workload,
    short_name,
)
from boxsched.protocol.batches import StoredEvent
from boxsched.protocol.shards import PAGE_WORKLOADS
from boxsched.states import JobState, Result, State
from boxsched.store import rows
from boxsched.store.blocks import Block, Row, Steps, load
from boxsched.store.mapping import mapper
from boxsched.store.records import ActivitySnapshot, Concern, Job, SetAsideCommand, Workload
from boxsched.store.steps import ssh_sessions

OVERTAKING_SEEN = 1_000  # with more workloads finished since then, overtaking is not counted

_SQL = load("reading.sql")

_concern = mapper(Concern, _SQL["concerns"].returns, project=short_name)
_id_of = _SQL["shown"].column("id")
_boxes_of = _SQL["shown"].column("boxes")
_job_id_of = _SQL["jobs_of"].column("id")


def ping() -> Steps[None]:
    yield _SQL["ping"]()


def try_to_write() -> Steps[None]:
    yield _SQL["try_to_write"]()


def time() -> Steps[float]:
    found = yield _SQL["time"]()
    now: float = found[0][0]
    return now


def cluster() -> Steps[str]:
    found = yield _SQL["cluster"]()
    name: str = found[0][0]
    return name


def workload(id_: WorkloadId) -> Steps[Workload | None]:
    found = yield _SQL["workload"](workload=id_)
    shown = yield from _with_jobs(found)
    return shown[0] if shown else None


def numbers(ids: Sequence[WorkloadId]) -> Steps[dict[WorkloadId, int]]:
    return dict((yield _SQL["numbers"].rows([(id_,) for id_ in ids])))


def listed(ids: Sequence[WorkloadId], jobs_at_most: int) -> Steps[list[Workload]]:
    """Return these workloads in order, with at most this many jobs in total, but at least one
    workload; without the jobs' commands.
    """
    place = {id_: index for index, id_ in enumerate(ids)}
    found = yield _SQL["shown"].rows([(id_,) for id_ in ids])
    few: list[Row] = []
    jobs = 0
    for row in sorted(found, key=lambda row: place[_id_of(row)]):
        jobs += _boxes_of(row)
        if few and jobs > jobs_at_most:
            break
        few.append(row)
    return (yield from _with_jobs(few, _SQL["jobs_listed"]))


def _with_jobs(found: list[Row], block: Block = _SQL["jobs_of"]) -> Steps[list[Workload]]:
    jobs: dict[WorkloadId, list[Job]] = {_id_of(row): [] for row in found}
    ids = [(job_id(_id_of(row), index),) for row in found for index in range(_boxes_of(row))]
    for row in sorted((yield block.rows(ids)), key=_job_id_of):
        jobs[job_workload(JobId(_job_id_of(row)))].append(rows.job(row))
    shown = [rows.workload(row, tuple(jobs[_id_of(row)])) for row in found]
    running = [one.id for one in shown if one.kind is Kind.SSH and one.state is State.RUNNING]
    places = yield from ssh_sessions.places(running)
    return [attrs.evolve(w, ssh=places[w.id]) if w.id in places else w for w in shown]


def overtaken(
    workload: WorkloadId, since: float, organization: OrganizationId
) -> Steps[int | None]:
    """Count from the finished and the running: everything admitted since has finished or holds a
    Box.
    """
    [(finished, later)] = yield _SQL["overtook_and_finished"](
        organization=organization, workload=workload, since=since, limit=OVERTAKING_SEEN + 1
    )
    [(running,)] = yield _SQL["overtook_and_run"](
        organization=organization, workload=workload, since=since
    )
    return None if finished > OVERTAKING_SEEN else later + running


def concerns(id_: WorkloadId) -> Steps[Concern | None]:
    found = yield _SQL["concerns"](workload=id_)
    return _concern(found[0]) if found else None


def job_state(id_: JobId) -> Steps[tuple[JobState, int] | None]:
    found = yield _SQL["job_state"](job=id_)
    for state, attempt in found:
        return rows.JOB_STATES[state], attempt
    return None


def unfinished(organization: OrganizationId) -> Steps[list[Workload]]:
    """Read in pages of one snapshot, so that other work can run in between."""
    found: list[Workload] = []
    after = 0
    while True:
        page = yield _SQL["unfinished"](
            organization=organization, after=after, limit=PAGE_WORKLOADS
        )
        found += [rows.workload(row, ()) for row in page]
        if len(page) < PAGE_WORKLOADS:
            return found
        after = _id_of(page[-1])


def activity(finished: int, organization: OrganizationId) -> Steps[ActivitySnapshot]:
    """Read in one snapshot: otherwise a workload that ends meanwhile would be in both lists or in
    neither.
    """
    places = yield from last_events()
    waits_or_runs = yield from unfinished(organization)
    found = yield _SQL["recently_finished"](organization=organization, limit=finished)
    ended = [rows.workload(row, ()) for row in found]
    passed = [one for one in ended if one.result is Result.PASSED]
    jobs = [(job_id(one.id, index),) for one in passed for index in range(one.boxes)]
    flaky = (yield _SQL["flaky_among"].rows(jobs)) if jobs else []
    found = yield _SQL["latest_history"]()
    history = rows.history(found[0]) if found else None
    return ActivitySnapshot(
        places,
        waits_or_runs,
        ended,
        history,
        frozenset(job_workload(JobId(id_)) for (id_,) in flaky),
    )


def events_there(places: Sequence[tuple[int, int, int]]) -> Steps[set[tuple[int, int, int]]]:
    found = yield _SQL["events_there"].rows(places)
    return {(shard, batch, n) for shard, batch, n in found}


def find_number(
    project: str, number: int, organization: OrganizationId
) -> Steps[WorkloadId | None]:
    found = yield _SQL["find_number"](project=full_name(organization, project), number=number)
    return None if found[0][0] is None else WorkloadId(found[0][0])


def events_after(shard: int, batch: int, n: int, limit: int) -> Steps[list[StoredEvent]]:
    found = yield _SQL["events_after"](shard=shard, batch=batch, n=n, limit=limit)
    return [rows.event(row) for row in found]


def last_event(shard: int) -> Steps[tuple[int, int]]:
    found = yield _SQL["last_event"](shard=shard)
    return (found[0][0], found[0][1]) if found else (0, 0)


def last_events() -> Steps[dict[int, tuple[int, int]]]:
    return {shard: (batch, n) for shard, batch, n in (yield _SQL["last_events"]())}


def set_aside(
    limit: int, workload: WorkloadId | None = None, shard: int | None = None
) -> Steps[list[SetAsideCommand]]:
    if workload is None:
        found = yield _SQL["set_aside"](shard=shard, limit=limit)
    else:
        found = yield _SQL["set_aside_of"](workload=workload, limit=limit)
    return [rows.set_aside(row) for row in found]


def set_aside_one(id_: int, shard: int) -> Steps[SetAsideCommand | None]:
    found = yield _SQL["set_aside_one"](shard=shard, id=id_)
    return rows.set_aside(found[0]) if found else None


def drop_old_set_aside(then: float, kept: int, limit: int) -> Steps[int]:
    old = yield _SQL["drop_old_set_aside"](then=then, limit=limit)
    beyond = yield _SQL["drop_set_aside_beyond"](kept=kept, limit=limit)
    return len(old) + len(beyond)


def drop_set_aside(id_: int, shard: int) -> Steps[bool]:
    return bool((yield _SQL["drop_set_aside"](shard=shard, id=id_)))
