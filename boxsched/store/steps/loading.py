"""Load a shard, to lead or explain it: in pages, in one snapshot."""

from collections.abc import Callable, Sequence
from typing import Any

from boxsched.model import JobId, ProjectId, WorkerId, WorkloadId, job_id, job_workload
from boxsched.protocol.shards import (
    PAGE_WORKLOADS,
    LoadedJob,
    LoadedWorkload,
    Organization,
    ShardLoading,
    ShardState,
)
from boxsched.store import rows
from boxsched.store.blocks import Block, Row, Steps, load
from boxsched.store.steps import leading, notifications, workers

_SQL = load("leading.sql")

_id_of = _SQL["load_workloads"].column("id")
_boxes_of = _SQL["load_workloads"].column("boxes")
_job_id_of = _SQL["load_jobs"].column("id")
_workload_of = _SQL["load_inbox_workloads"].column("workload")

PAGE_ROWS = 2_000  # rows in a page of small values
PAGE_JOBS = 2_000  # jobs in a page; a workload may have 1,000


def load_shard(shard: int, into: ShardLoading) -> Steps[None]:
    """Load the shard. The time grows with the data, but each page is short, and each row is read
    once.
    """
    epoch, batch = yield from leading.batch_number(shard)
    found = yield _SQL["load_organization"](shard=shard)
    if not found:
        into.begin(ShardState(shard, epoch, batch, None, (), (), {}, ()))
        return
    organization = rows.organization(found[0])
    into.begin((yield from _state(shard, epoch, batch, organization)))
    in_inbox = yield from _in_inbox(shard)
    yield from _workloads(organization, in_inbox, into)


def _state(shard: int, epoch: int, batch: int, organization: Organization) -> Steps[ShardState]:
    mine = {"organization": organization.id}
    projects = yield from _by_id(_SQL["load_projects"], rows.project, **mine)
    boxes = yield from _by_id(_SQL["load_boxes"], rows.box, **mine)
    durations = yield from _durations(organization)
    pulses = yield from workers.pulses(shard)
    pauses = yield _SQL["load_pauses"](**mine)
    drains = yield _SQL["load_drains"](**mine)
    lanes = yield from _lanes(organization)
    notifying = yield from notifications.notifying(organization.id)
    return ShardState(
        shard,
        epoch,
        batch,
        organization,
        tuple(sorted(projects, key=lambda project: project.name)),
        tuple(boxes),
        durations,
        tuple(pulses),
        tuple([rows.pause(row) for row in pauses]),
        lanes,
        notifying,
        {WorkerId(row[0]): rows.drain(row) for row in drains},
    )


def _by_id(block: Block, value: Callable[[Row], Any], **values: object) -> Steps[list[Any]]:
    """Read all pages of a block that is ordered by ids."""
    id_of = block.column("id")
    found: list[Any] = []
    after = 0
    while True:
        page = yield block(after=after, limit=PAGE_ROWS, **values)
        found += [value(row) for row in page]
        if len(page) < PAGE_ROWS:
            return found
        after = id_of(page[-1])


def _durations(
    organization: Organization,
) -> Steps[dict[tuple[ProjectId, str], tuple[float, ...]]]:
    found: dict[tuple[ProjectId, str], tuple[float, ...]] = {}
    project, name = 0, ""
    while True:
        page = yield _SQL["load_durations"](
            organization=organization.id, project=project, name=name, limit=PAGE_ROWS
        )
        found |= {
            (ProjectId(project), name): rows.durations(recent) for project, name, recent in page
        }
        if len(page) < PAGE_ROWS:
            return found
        project, name, _ = page[-1]


def _lanes(organization: Organization) -> Steps[dict[str, int]]:
    found: dict[str, int] = {}
    after = ""
    while True:
        page = yield _SQL["load_lanes"](organization=organization.id, after=after, limit=PAGE_ROWS)
        found.update(page)
        if len(page) < PAGE_ROWS:
            return found
        after = page[-1][0]


def _in_inbox(shard: int) -> Steps[frozenset[int]]:
    """Return the workloads of inbox entries: the leader learns of them from the inbox."""
    found = yield from _by_id(_SQL["load_inbox_workloads"], _workload_of, shard=shard)
    return frozenset(found)


def _workloads(
    organization: Organization, in_inbox: frozenset[int], into: ShardLoading
) -> Steps[None]:
    after = 0
    while True:
        page = yield _SQL["load_workloads"](
            organization=organization.id, after=after, limit=PAGE_WORKLOADS
        )
        for part in _parts([row for row in page if _id_of(row) not in in_inbox]):
            into.add((yield from _with_jobs(part)))
        if len(page) < PAGE_WORKLOADS:
            return
        after = _id_of(page[-1])


def _parts(page: Sequence[Row]) -> list[list[Row]]:
    """Split a page into parts of about PAGE_JOBS jobs at most."""
    parts: list[list[Row]] = []
    jobs = PAGE_JOBS
    for row in page:
        if jobs >= PAGE_JOBS:
            parts.append([])
            jobs = 0
        parts[-1].append(row)
        jobs += _boxes_of(row)
    return parts


def _with_jobs(page: Sequence[Row]) -> Steps[list[LoadedWorkload]]:
    jobs: dict[WorkloadId, list[LoadedJob]] = {_id_of(row): [] for row in page}
    ids = [(job_id(_id_of(row), index),) for row in page for index in range(_boxes_of(row))]
    for row in sorted((yield _SQL["load_jobs"].rows(ids)), key=_job_id_of):
        jobs[job_workload(JobId(_job_id_of(row)))].append(rows.loaded_job(row))
    return [rows.loaded_workload(row, tuple(jobs[_id_of(row)])) for row in page]
