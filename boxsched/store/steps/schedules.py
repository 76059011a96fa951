"""Schedules: stored with a project's settings, and updated when they are due."""

from collections.abc import Sequence

import attrs

from boxsched.model import OrganizationId, ProjectId, WorkloadId, short_name
from boxsched.protocol.schedules import DueSchedule, Firing, NewSchedule, Schedule
from boxsched.protocol.shards import Project
from boxsched.states import Result, State
from boxsched.store import rows
from boxsched.store.blocks import Row, Steps, load
from boxsched.store.mapping import mapper
from boxsched.store.records import NewWorkload

_SQL = load("schedules.sql")

Place = tuple[int, str, str, str]  # project, cron, time zone, branch: how schedules are ordered
FIRST_PLACE: Place = (0, "", "", "")


@attrs.frozen
class LastBuild:
    """The last build of a schedule, with its present state."""

    id: WorkloadId
    number: int
    state: State
    result: Result | None


@attrs.frozen
class ListedSchedule:
    """A schedule for a list. ``build``: its last build, until it is deleted."""

    project: ProjectId
    project_name: str
    cron: str
    time_zone: str
    branch: str
    next_at: float
    fired_at: float | None
    workload: WorkloadId | None
    skipped_at: float | None
    skipped: str | None
    build: LastBuild | None = None

    @property
    def place(self) -> Place:
        return self.project, self.cron, self.time_zone, self.branch


_listed = mapper(
    ListedSchedule,
    _SQL["schedules_of_project"].returns,
    _SQL["schedules"].returns,
    project_name=short_name,
)
_last_build = mapper(LastBuild, _SQL["last_builds"].returns, state=rows.STATES, result=rows.RESULTS)


def put_schedules(
    project: ProjectId, version: int, schedules: Sequence[NewSchedule], now: float
) -> Steps[None]:
    """Set the project's schedules: existing ones keep their next time, others are deleted."""
    named = {one.schedule: one for one in schedules}
    yield _SQL["put_schedules"].rows(
        [
            (one.schedule.cron, one.schedule.time_zone, one.schedule.branch, one.next_at)
            for one in named.values()
        ],
        project=project,
        version=version,
        now=now,
    )
    yield _SQL["drop_other_schedules"](project=project, version=version)


def drop_schedules(project: ProjectId) -> Steps[None]:
    yield _SQL["drop_schedules_of_project"](project=project)


def unscheduled(limit: int) -> Steps[list[Project]]:
    return [rows.project(row) for row in (yield _SQL["unscheduled"](limit=limit))]


def schedule_anew(
    project: ProjectId, version: int, schedules: Sequence[NewSchedule], now: float
) -> Steps[bool]:
    if not (yield _SQL["set_scheduled"](project=project, version=version)):
        return False
    yield from put_schedules(project, version, schedules, now)
    return True


def due(now: float, limit: int) -> Steps[list[DueSchedule]]:
    return [_due(row) for row in (yield _SQL["due_schedules"](now=now, limit=limit))]


def ahead(now: float, limit: int) -> Steps[list[DueSchedule]]:
    return [_due(row) for row in (yield _SQL["ahead_schedules"](now=now, limit=limit))]


def next_at() -> Steps[float | None]:
    found: list[Row] = yield _SQL["next_schedule"]()
    at: float | None = found[0][0]
    return at


def settle(firings: Sequence[Firing]) -> Steps[None]:
    yield _SQL["settle_schedules"].rows([_settled(one, None) for one in firings])


def drop(gone: DueSchedule) -> Steps[None]:
    cron, time_zone, branch = attrs.astuple(gone.schedule)
    yield _SQL["drop_schedule"](
        project=gone.project,
        cron=cron,
        time_zone=time_zone,
        branch=branch,
        next_at=gone.next_at,
    )


def stale(group: Sequence[NewWorkload]) -> Steps[set[Firing]]:
    """Return the firings that another node has stored already, or whose schedule was deleted."""
    firings = {new.firing for new in group if new.firing is not None}
    if not firings:
        return set()
    places = sorted(_place(one.project, one.schedule) for one in firings)
    found = {tuple(row[:4]): row[4] for row in (yield _SQL["next_times"].rows(places))}
    return {one for one in firings if found.get(_place(one.project, one.schedule)) != one.due}


def fired(done: Sequence[tuple[Firing, WorkloadId]]) -> Steps[None]:
    """Record that these firings have builds, in the submission's transaction."""
    yield _SQL["settle_schedules"].rows([_settled(one, build) for one, build in done])


def of_project(project: ProjectId) -> Steps[list[ListedSchedule]]:
    return (yield from _with_builds((yield _SQL["schedules_of_project"](project=project))))


def listed(after: Place, limit: int, organization: OrganizationId) -> Steps[list[ListedSchedule]]:
    project, cron, time_zone, branch = after
    found = yield _SQL["schedules"](
        organization=organization,
        project=project,
        cron=cron,
        time_zone=time_zone,
        branch=branch,
        limit=limit,
    )
    return (yield from _with_builds(found))


def _with_builds(found: Sequence[Row]) -> Steps[list[ListedSchedule]]:
    listed: list[ListedSchedule] = [_listed(row) for row in found]
    ids = sorted({one.workload for one in listed if one.workload is not None})
    builds = [_last_build(row) for row in (yield _SQL["last_builds"].rows([(id_,) for id_ in ids]))]
    by_id = {one.id: one for one in builds}
    return [
        one if one.workload is None else attrs.evolve(one, build=by_id.get(one.workload))
        for one in listed
    ]


def _due(row: Row) -> DueSchedule:
    project, organization, name, cron, time_zone, branch, next_at = row
    schedule = Schedule(cron, time_zone, branch)
    return DueSchedule(
        ProjectId(project), OrganizationId(organization), short_name(name), schedule, next_at
    )


def _place(project: ProjectId, schedule: Schedule) -> Place:
    return project, schedule.cron, schedule.time_zone, schedule.branch


def _settled(one: Firing, build: WorkloadId | None) -> Row:
    fired_at = None if build is None else one.planned
    return (
        *_place(one.project, one.schedule), one.due, one.next_at, one.decided_at, fired_at, build,
        one.skipped_at, one.skipped,
    )  # fmt: skip
