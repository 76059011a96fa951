"""Read a scenario from JSON (docs/simulation.md, "Scenarios"). Errors are ``BadInput`` with the
place."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

import attrs

from boxsched.model import (
    MAX_GLOB_CHARACTERS,
    MAX_PRIORITY,
    MIN_PRIORITY,
    Cancellation,
    CancellationRule,
    Kind,
    Policy,
    ProjectId,
    ServerQueue,
    WorkloadId,
    cancellation_for,
    default_priority,
    fails_fast,
    lane_key,
    too_many_globs,
)
from boxsched.scheduling.interface import (
    BoxesWanted,
    JobAsk,
    Pause,
    Planned,
    QueueRules,
    Reprioritize,
    Resume,
    Stop,
    Submit,
)
from boxsched.simulation import fields
from boxsched.simulation.fields import BadInput, Fields, shown
from boxsched.simulation.scenario import (
    DEFAULT_BOX_TYPE,
    Asked,
    JobGroup,
    PlanRead,
    Scenario,
    held,
    workload_id,
)
from boxsched.states import Result

MAX_BOXES = 1_000_000  # more would only use memory

_count = fields.whole(0, MAX_BOXES)
_priority = fields.whole(MIN_PRIORITY, MAX_PRIORITY)
_limit = fields.nullable(fields.whole(0, 2**53))


class _JobResult(StrEnum):
    """The result of a job that is not stopped."""

    PASSED = "passed"
    FAILED = "failed"


@attrs.frozen
class SimulatedProject:
    """A project's settings, with default values, which unlisted projects have."""

    priority_branches: Sequence[str] = ()
    max_boxes: int | None = None
    fail_fast: bool | Sequence[str] = False
    cancellation: Sequence[CancellationRule] = ()
    queues: Mapping[str, ServerQueue] = MappingProxyType({})  # by server


@attrs.frozen
class _Job:
    ask: JobAsk
    seconds: float
    result: Result


def parse(data: bytes) -> Scenario:
    """Parse a scenario. Raises BadInput."""
    top = Fields(fields.parse_json(data), "")
    boxes = top.take("boxes", _first_boxes)
    rules = QueueRules(
        policy=top.take_or("policy", fields.one_of(Policy), Policy.BACKFILL),
        max_boxes=top.take_or("max_boxes", _limit, None),
        priority_aging=top.take_or(
            "priority_aging", fields.nullable(fields.positive_seconds), None
        ),
    )
    projects = _distinct(top.take_or("projects", fields.list_of(_project), []))
    script = _Script(boxes, projects)
    top.take("events", fields.list_of(script.event))
    top.done()
    return Scenario(
        rules=rules,
        boxes=boxes,
        project_limits=script.limits(),
        names=list(script.ids),
        course=script.course,
        events=script.events,
    )


def _first_boxes(value: object, place: str) -> dict[str, int]:
    if not isinstance(value, dict):
        return {DEFAULT_BOX_TYPE: _count(value, place)}
    return _boxes_of_types(value, place, None)


def _boxes_of_types(
    value: dict[str, object], place: str, known: Mapping[str, int] | None
) -> dict[str, int]:
    named = Fields(value, place)
    if not value:
        raise BadInput(place, "must name at least one Box type")
    counts = {}
    for box_type in value:
        where = fields.inside(place, box_type)
        if known is not None and box_type not in known:
            raise BadInput(where, "is not a Box type of this scenario")
        counts[fields.name(box_type, where)] = named.take(box_type, _count)
    return counts


def _project(value: object, place: str) -> tuple[str, SimulatedProject, str]:
    given = Fields(value, place)
    name = given.take("name", fields.name)
    project = SimulatedProject(
        priority_branches=given.take_or("priority_branches", fields.list_of(fields.name), ()),
        max_boxes=given.take_or("max_boxes", _limit, None),
        fail_fast=given.take_or("fail_fast", _fail_fast, False),
        cancellation=given.take_or("cancellation", fields.list_of(_strategy), ()),
        queues=given.take_or("servers", _queues, {}),
    )
    given.done()
    _check_globs(project, place)
    return name, project, fields.inside(place, "name")


def _check_globs(project: SimulatedProject, place: str) -> None:
    """Check the same limit as the service, so that both accept the same projects."""
    lists = {
        "priority_branches": project.priority_branches,
        "fail_fast": () if isinstance(project.fail_fast, bool) else project.fail_fast,
        "cancellation": [rule.pattern for rule in project.cancellation],
    }
    field = too_many_globs(lists)
    if field is not None:
        raise BadInput(
            fields.inside(place, field),
            f"must be at most {MAX_GLOB_CHARACTERS} characters, with the project's other patterns",
        )


def _distinct(listed: Sequence[tuple[str, SimulatedProject, str]]) -> dict[str, SimulatedProject]:
    projects: dict[str, SimulatedProject] = {}
    for name, project, place in listed:
        if name in projects:
            raise BadInput(place, f"{shown(name)} is listed twice")
        projects[name] = project
    return projects


def _fail_fast(value: object, place: str) -> bool | list[str]:
    """Read ``fail_fast``: never, always, or on branches that match a pattern."""
    if isinstance(value, list):
        return fields.list_of(fields.name)(value, place)
    return fields.flag(value, place)


def _pattern(value: object, place: str) -> str:
    pattern = fields.name(value, place)
    if len(pattern) > MAX_GLOB_CHARACTERS:
        raise BadInput(place, f"must be at most {MAX_GLOB_CHARACTERS} characters")
    return pattern


def _strategy(value: object, place: str) -> CancellationRule:
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise BadInput(place, f"must be a pair of pattern and strategy, not {shown(value)}")
    pattern = fields.name(value[0], f"{place}[0]")
    strategy = fields.one_of(Cancellation)(value[1], f"{place}[1]")
    if len(value) == 2:
        return CancellationRule(pattern, strategy)
    more = Fields(value[2], f"{place}[2]")
    spare_after = more.take("spare_after", fields.whole(1, 2**53))
    more.done()
    return CancellationRule(pattern, strategy, spare_after)


def _queues(value: object, place: str) -> dict[str, ServerQueue]:
    servers = Fields(value, place)
    queues: dict[str, ServerQueue] = {}
    for name in servers.names():
        where = fields.inside(place, name)
        server = Fields(servers.take(name, fields.anything), where)
        queues[fields.name(name, where)] = server.take_or(
            "queue", fields.one_of(ServerQueue), ServerQueue.ALL
        )
        server.done()
    return queues


class _Script:
    """Reads the events in order, because each may refer to earlier ones."""

    def __init__(self, boxes: Mapping[str, int], projects: Mapping[str, SimulatedProject]) -> None:
        self.ids: dict[str, WorkloadId] = {}
        self.course: list[tuple[JobGroup, ...]] = []
        self.events: list[tuple[float, Asked]] = []
        self._boxes = boxes
        self._first_type = next(iter(boxes))
        self._projects = projects
        self._project_ids = {name: ProjectId(i) for i, name in enumerate(projects, 1)}
        self._asks: dict[tuple[JobAsk, ...], tuple[JobAsk, ...]] = {}
        self._pauses: set[str] = set()

    def limits(self) -> dict[ProjectId, int]:
        return {
            self._project_ids[name]: project.max_boxes
            for name, project in self._projects.items()
            if project.max_boxes is not None
        }

    def event(self, value: object, place: str) -> None:
        given = Fields(value, place)
        at = given.take("at", fields.time)
        if self.events and at < self.events[-1][0]:
            raise BadInput(f"{place}.at", f"is earlier than the previous event, {shown(at)}")
        asked: Asked
        if given.has("submit"):
            asked = self._submit(given, at)
        elif given.has("plan"):
            asked = self._plan(given)
        elif given.has("stop"):
            asked = Stop(given.take("stop", self._registered))
        elif given.has("pause"):
            asked = self._pause(given)
        elif given.has("resume"):
            asked = Resume(given.take("resume", self._paused))
            self._pauses.discard(asked.name)
        elif given.has("reprioritize"):
            workload = given.take("reprioritize", self._registered)
            asked = Reprioritize(workload, given.take("priority", _priority))
        elif given.has("boxes"):
            counts = given.take("boxes", self._wanted)
            given.done()
            self.events.extend((at, BoxesWanted(t, n)) for t, n in counts.items())
            return
        else:
            raise BadInput(
                place,
                "must have one of submit, plan, stop, pause, resume, reprioritize and boxes",
            )
        given.done()
        self.events.append((at, asked))

    def _wanted(self, value: object, place: str) -> dict[str, int]:
        if isinstance(value, dict):
            return _boxes_of_types(value, place, self._boxes)
        return {self._first_type: _count(value, place)}

    def _registered(self, value: object, place: str) -> WorkloadId:
        name = fields.name(value, place)
        if name not in self.ids:
            raise BadInput(place, f"nothing with the id {shown(name)} was registered before")
        return self.ids[name]

    def _submit(self, given: Fields, at: float) -> Submit:
        kind = given.take("submit", fields.one_of(Kind))
        name = given.take("id", fields.name)
        if name in self.ids:
            raise BadInput(f"{given.place}.id", f"{shown(name)} is used by an earlier workload")
        project_name = given.take("project", fields.name)
        project = self._projects.get(project_name, SimulatedProject())
        project_id = self._project_id(project_name)
        branch, tag, server = self._where(given, kind)
        jobs = given.take("jobs", self._jobs if kind is not Kind.BUILD else self._jobs_or_none)
        automatic = kind is Kind.DEPLOY and given.take_or("automatic", fields.flag, False)
        usual = default_priority(kind, branch, project.priority_branches)
        workload = self.ids[name] = workload_id(len(self.ids))
        asks = self._shared(jobs or ())
        rule = cancellation_for(branch, project.cancellation)
        self.course.append(_course(jobs or (), asks))
        return Submit(
            id=workload,
            kind=kind,
            project=project_id,
            branch=branch,
            lane=lane_key(kind, project_id, branch, tag, server),
            priority=given.take_or("priority", _priority, usual),
            created_at=at,
            jobs=asks,
            cancellation=rule.strategy,
            fail_fast=fails_fast(branch, project.fail_fast),
            spare_after=rule.spare_after,
            automatic=automatic,
            queue=project.queues.get(server or "", ServerQueue.ALL),
        )

    def _project_id(self, name: str) -> ProjectId:
        return self._project_ids.setdefault(name, ProjectId(len(self._project_ids) + 1))

    def _plan(self, given: Fields) -> PlanRead:
        workload = given.take("plan", self._registered)
        jobs = given.take("jobs", self._jobs_or_none)
        if jobs is None:
            return PlanRead(Planned(workload, None), ())
        asks = self._shared(jobs)
        return PlanRead(Planned(workload, asks), _course(jobs, asks))

    def _pause(self, given: Fields) -> Pause:
        name = given.take("pause", fields.name)
        project = None
        if given.has("project"):
            project = self._project_id(given.take("project", fields.name))
        for field in ("branch", "server"):
            if given.has(field) and project is None:
                raise BadInput(f"{given.place}.{field}", "needs a project")
        if given.has("branch") and given.has("server"):
            raise BadInput(given.place, "a pause has a branch or a server, not both")
        branch = given.take_or("branch", _pattern, None)
        server = given.take_or("server", fields.name, None)
        lane = None
        if server is not None and project is not None:
            lane = lane_key(Kind.DEPLOY, project, None, None, server)
        self._pauses.add(name)
        automatic = given.take_or("automatic", fields.flag, False)
        return Pause(name, project, branch, lane, automatic)

    def _paused(self, value: object, place: str) -> str:
        name = fields.name(value, place)
        if name not in self._pauses:
            raise BadInput(place, f"there is no pause {shown(name)}")
        return name

    def _shared(self, jobs: Sequence[_Job]) -> tuple[JobAsk, ...]:
        """Return one shared tuple for equal jobs."""
        asks = tuple([job.ask for job in jobs])
        return self._asks.setdefault(asks, asks)

    def _jobs(self, value: object, place: str) -> Sequence[_Job]:
        jobs = fields.list_of(self._job)(value, place)
        if not jobs:
            raise BadInput(place, "must contain at least one job")
        return jobs

    def _jobs_or_none(self, value: object, place: str) -> Sequence[_Job] | None:
        return None if value is None else self._jobs(value, place)

    def _where(self, given: Fields, kind: Kind) -> tuple[str | None, str | None, str | None]:
        """Return the workload's branch, tag and server; at most one of them is not None."""
        if kind is Kind.SSH:
            return None, None, None
        if kind is Kind.DEPLOY:
            return None, None, given.take("server", fields.name)
        if given.has("branch") == given.has("tag"):
            raise BadInput(given.place, "a build has either a branch or a tag")
        if given.has("tag"):
            return None, given.take("tag", fields.name), None
        return given.take("branch", fields.name), None, None

    def _job(self, value: object, place: str) -> _Job:
        if not isinstance(value, dict):
            seconds = fields.seconds(value, place)
            return _Job(JobAsk(self._first_type, seconds, seconds), seconds, Result.PASSED)
        given = Fields(value, place)
        seconds = given.take("seconds", fields.seconds)
        expected = given.take_or("expected", fields.seconds, seconds)
        limit = given.take_or("limit", fields.seconds, expected)
        if limit < expected:
            raise BadInput(
                f"{place}.limit", f"must be at least the expected duration, {expected:g}"
            )
        result = given.take_or("result", fields.one_of(_JobResult), _JobResult.PASSED)
        box_type = given.take_or("box_type", self._box_type, self._first_type)
        given.done()
        return _Job(JobAsk(box_type, expected, limit), seconds, Result(result))

    def _box_type(self, value: object, place: str) -> str:
        box_type = fields.name(value, place)
        if box_type not in self._boxes:
            raise BadInput(place, f"{shown(box_type)} is not a Box type of this scenario")
        return box_type


def _course(jobs: Sequence[_Job], asks: Sequence[JobAsk]) -> tuple[JobGroup, ...]:
    alike: dict[tuple[float, Result], list[int]] = {}
    for i, job in enumerate(jobs):
        alike.setdefault((job.seconds, job.result), []).append(i)
    return tuple(
        JobGroup(tuple(places), seconds, result, held(places, asks))
        for (seconds, result), places in alike.items()
    )
