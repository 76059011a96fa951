"""A team's Boxes and workloads in virtual time, for scenario tests.

Each call is its own instant; calls inside ``with w.together():`` share one.
"""

import contextlib

import attrs

from boxsched.model import (
    Cancellation,
    CancellationRule,
    Kind,
    Policy,
    ServerQueue,
    cancellation_for,
    default_priority,
    fails_fast,
)
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.interface import (
    Admitted,
    BoxAdded,
    BoxesWanted,
    BoxRetired,
    Canceled,
    Finished,
    JobsEnded,
    LaneIdle,
    Pause,
    PlanFailed,
    Planned,
    ProjectLimited,
    Queued,
    Refused,
    Reprioritize,
    Resume,
    Stop,
    StopJobs,
    Submit,
)
from boxsched.scheduling.why import why
from boxsched.states import Result


@attrs.define
class Project:
    number: int
    priority_branches: tuple = ()
    cancellation: tuple = ()
    fail_fast: bool = False
    queues: dict = attrs.field(factory=dict)  # by server


@attrs.define
class WorkloadRecord:
    """What the world recorded of one workload."""

    jobs: list  # (seconds, result)
    submit: Submit
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    result: str | None = None
    boxes: tuple = ()
    warm: int = 0
    ended: set = attrs.field(factory=set)
    stopping: tuple = ()  # jobs that were asked to end and have not ended yet


class World:
    def __init__(self, boxes=1, policy="backfill", plan=None, aging=None, slow_stops=False):
        boxes = boxes if isinstance(boxes, dict) else {"linux": boxes}
        self.now = 0
        self.slow_stops = slow_stops  # stopped jobs end only at ``stops_end``
        rules = QueueRules(Policy(policy), max_boxes=plan, priority_aging=aging)
        self.core = Scheduler(rules, box_types=tuple(boxes))
        self.seen = {}
        self.decisions = []  # of the last instant
        self._projects = {}
        self._gathered = None
        self.boxes(boxes)

    # --- Requests -----------------------------------------------------------------------------

    def project(
        self, name, *, cancellation=(), max_boxes=None, fail_fast=False, priority=(), queues=()
    ):
        rules = tuple(rule_of(*rule) for rule in cancellation)
        number = len(self._projects) + 1
        self._projects[name] = Project(number, tuple(priority), rules, fail_fast, dict(queues))
        self.limit(name, max_boxes)

    def limit(self, name, max_boxes):
        self._ask(ProjectLimited(self._project(name).number, max_boxes))

    def build(self, name, *jobs, branch="main", tag=None, **options):
        branch = None if tag else branch
        lane = ("tag", tag) if tag else ("branch", branch)
        self._submit(name, Kind.BUILD, jobs, branch, lane, **options)

    def deploy(self, name, *jobs, server="production", **options):
        self._submit(name, Kind.DEPLOY, jobs, None, ("server", server), **options)

    def plan(self, name, *jobs):
        """Give jobs to a build that was submitted with ``planned=False``; with no jobs it fails."""
        jobs = [job if isinstance(job, dict) else {"seconds": job} for job in jobs]
        self.seen[name].jobs = ends(jobs)
        self._ask(Planned(self.id(name), tuple(map(ask, jobs)) or None))

    def pause(self, name, project=None, branch=None, server=None, automatic=False):
        number = project and self._project(project).number
        lane = server and (number, "server", server)
        self._ask(Pause(name, number, branch, lane, automatic))

    def resume(self, name):
        self._ask(Resume(name))

    def idle(self, branch, project="web"):
        """The branch had no build for a long time."""
        self._ask(LaneIdle((self._project(project).number, "branch", branch)))

    def reprioritize(self, name, priority):
        self._ask(Reprioritize(self.id(name), priority))

    def ssh(self, name, *jobs, **options):
        self._submit(name, Kind.SSH, jobs, None, None, **options)

    def stop(self, name):
        self._ask(Stop(self.id(name)))

    def boxes(self, wanted):
        wanted = wanted if isinstance(wanted, dict) else {"linux": wanted}
        for box_type, count in wanted.items():
            self._ask(BoxesWanted(box_type, count))

    def box_added(self, box, box_type="linux"):
        self._ask(BoxAdded(box, box_type))

    def box_retired(self, box):
        self._ask(BoxRetired(box))

    @contextlib.contextmanager
    def together(self):
        """All calls inside happen at one instant."""
        self._gathered = []
        yield
        events, self._gathered = self._gathered, None
        self._instant(events)

    def stops_end(self, name):
        """The stopped jobs end now."""
        seen = self.seen[name]
        self._instant([JobsEnded(self.id(name), seen.stopping, Result.STOPPED)])

    # --- Time -----------------------------------------------------------------------------------

    def run_until(self, time):
        while (due := self._next_end()) is not None and due <= time:
            self.now = due
            self._instant([])
        self.now = time

    def run(self):
        """Run until nothing runs any more."""
        while (due := self._next_end()) is not None:
            self.run_until(due)

    # --- Observations -------------------------------------------------------------------------

    def id(self, name):
        return self.seen[name].submit.id

    def why(self, name):
        return why(self.core, self.id(name), self.now)

    def started(self, name):
        return self.seen[name].started_at

    def finished(self, name):
        return self.seen[name].finished_at

    def promise(self, name):
        """Return the first time that was reserved for it as the head, or None."""
        return self.core.workloads[self.id(name)].promise

    @property
    def ended(self):
        return {name for name, seen in self.seen.items() if seen.finished_at is not None}

    def result(self, name):
        return self.seen[name].result

    @property
    def upcoming(self):
        return {n for n, s in self.seen.items() if s.queued_at is None and s.finished_at is None}

    @property
    def waiting(self):
        return {
            n
            for n, s in self.seen.items()
            if s.queued_at is not None and s.started_at is None and s.finished_at is None
        }

    @property
    def running(self):
        return {
            n for n, s in self.seen.items() if s.started_at is not None and s.finished_at is None
        }

    # --- Internals ----------------------------------------------------------------------------

    def _project(self, name):
        if name not in self._projects:
            self._projects[name] = Project(len(self._projects) + 1)
        return self._projects[name]

    def _submit(
        self, name, kind, jobs, branch, lane, project="web", priority=None, planned=True,
        automatic=False,
    ):  # fmt: skip
        settings = self._project(project)
        jobs = [job if isinstance(job, dict) else {"seconds": job} for job in jobs or (60,)]
        jobs = jobs if planned else []
        rule = cancellation_for(branch, settings.cancellation)
        if priority is None:
            priority = default_priority(kind, branch, settings.priority_branches)
        asks = tuple(ask(job) for job in jobs)
        submit = Submit(
            id=len(self.seen) + 1,
            kind=kind,
            project=settings.number,
            branch=branch,
            lane=lane and (settings.number, *lane),
            priority=priority,
            created_at=self.now,
            jobs=asks,
            cancellation=rule.strategy,
            fail_fast=fails_fast(branch, settings.fail_fast),
            spare_after=rule.spare_after,
            automatic=automatic,
            queue=ServerQueue(settings.queues.get(lane[-1] if lane else None, "all")),
        )
        self.seen[name] = WorkloadRecord(ends(jobs), submit)
        self._ask(submit)

    def _ask(self, event):
        if self._gathered is None:
            self._instant([event])
        else:
            self._gathered.append(event)

    def _ends(self):
        """Return (time, name, job) of all jobs that run and were not asked to end."""
        for name, seen in self.seen.items():
            if seen.started_at is not None and seen.finished_at is None:
                for job, (seconds, _) in enumerate(seen.jobs):
                    if job not in seen.ended and job not in seen.stopping:
                        yield seen.started_at + seconds, name, job

    def _next_end(self):
        return min((time for time, _, _ in self._ends()), default=None)

    def _instant(self, events):
        """Apply the ends of jobs and the requests, then ``settle``; repeat while jobs of 0 seconds
        end."""
        self.decisions = []
        while True:
            for time, name, job in list(self._ends()):
                if time <= self.now and job not in self.seen[name].ended:
                    self._apply(JobsEnded(self.id(name), (job,), self.seen[name].jobs[job][1]))
            for event in events:
                self._apply(event)
            self._take_in(self.core.settle(self.now))
            self.core.check()
            events = []
            due = self._next_end()
            if due is None or due > self.now:
                break

    def _apply(self, event):
        if isinstance(event, JobsEnded):
            self._by_id(event.workload).ended.update(event.jobs)
        self._take_in(self.core.apply(event, self.now))

    def _take_in(self, decisions):
        self.decisions += decisions
        for decision in decisions:
            match decision:
                case Queued():
                    self._by_id(decision.workload).queued_at = self.now
                case Admitted():
                    seen = self._by_id(decision.workload)
                    seen.started_at = self.now
                    seen.boxes, seen.warm = decision.boxes, decision.warm
                case StopJobs():
                    seen = self._by_id(decision.workload)
                    seen.stopping = decision.jobs
                    if not self.slow_stops:
                        self._apply(JobsEnded(decision.workload, decision.jobs, Result.STOPPED))
                case Finished():
                    self._finish(decision.workload, decision.result)
                case PlanFailed():
                    self._finish(decision.workload, Result.FAILED)
                case Canceled():
                    self._finish(decision.workload, Result.CANCELED)
                case Refused():
                    self._finish(decision.workload, Result.REFUSED)

    def _finish(self, workload, result):
        seen = self._by_id(workload)
        assert seen.finished_at is None
        seen.finished_at, seen.result = self.now, str(result)

    def _by_id(self, workload):
        return next(s for s in self.seen.values() if s.submit.id == workload)


def rule_of(pattern, strategy, spare_after=None):
    return CancellationRule(pattern, Cancellation(strategy), spare_after)


def ends(jobs):
    """Return how each job ends."""
    return [(j["seconds"], Result(j.get("result", "passed"))) for j in jobs]


def ask(job):
    """Return what the core sees of a job, with defaults as in a scenario."""
    expected = job.get("expected", job["seconds"])
    return JobAsk(job.get("box_type", "linux"), expected, job.get("limit", expected))
