"""Run a scenario in virtual time: admitted workloads start, and their jobs end after their seconds.

One instant (docs/scheduling.md, "One instant"):

    1. every job that ends now has ended,
    2. what is asked now is applied, in its order,
    3. the core settles; if jobs of 0 seconds ended with that, the instant comes round again.

Jobs that the core stops end at once, before anything else is applied.
"""

import heapq
from collections.abc import Callable, Sequence

from boxsched.model import WorkloadId
from boxsched.scheduling import Scheduler
from boxsched.scheduling.interface import (
    Admitted,
    BoxesWanted,
    BoxFreed,
    Canceled,
    Decision,
    Finished,
    JobAsk,
    JobsEnded,
    PlanFailed,
    ProjectLimited,
    Queued,
    Refused,
    StopJobs,
    Submit,
)
from boxsched.simulation.meter import Meter
from boxsched.simulation.outcome import Outcome, SimulatedTimes, summarize
from boxsched.simulation.scenario import (
    Asked,
    JobGroup,
    PlanRead,
    Scenario,
    held,
    workload_index,
)
from boxsched.states import Result

EVENTS_BETWEEN_GLANCES = 512

Watch = Callable[[int], None]


def run(scenario: Scenario, watch: Watch | None = None) -> Outcome:
    """Run a scenario until nothing more can happen.

    ``watch`` is called from time to time with the number of events applied so far.
    """
    return World(scenario).run(watch)


class World:
    """The clock, the running jobs and the core of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._core = Scheduler(scenario.rules, box_types=tuple(scenario.boxes))
        self._meter = Meter(scenario.boxes)
        # Ends to come: (time, a number that breaks ties, workload, its jobs that end then).
        self._ends: list[tuple[float, int, WorkloadId, JobGroup]] = []
        self._pushed = 0
        self._running: set[WorkloadId] = set()
        self._asks: dict[WorkloadId, Sequence[JobAsk]] = {}  # by unfinished workload, then by job
        self._course = list(scenario.course)
        self._records: list[SimulatedTimes] = []
        self._jobs = 0

    def run(self, watch: Watch | None = None) -> Outcome:
        events = self._scenario.events
        if events:
            self._begin(events[0][0])
        applied = glanced = 0
        while (now := self._next_instant(applied)) is not None:
            self._meter.pass_time(now)
            self._end_jobs(now)
            while applied < len(events) and events[applied][0] == now:
                self._apply(events[applied][1], now)
                applied += 1
            self._settle(now)
            if watch is not None and applied - glanced >= EVENTS_BETWEEN_GLANCES:
                glanced = applied
                watch(applied)
        return self._outcome()

    def _begin(self, now: float) -> None:
        self._meter.begin(now)
        for box_type, count in self._scenario.boxes.items():
            self._core.apply(BoxesWanted(box_type, count), now)
        for project, limit in self._scenario.project_limits.items():
            self._core.apply(ProjectLimited(project, limit), now)

    def _next_instant(self, applied: int) -> float | None:
        ends, events = self._ends, self._scenario.events
        while ends and ends[0][2] not in self._running:
            heapq.heappop(ends)  # the workload was stopped: it must not cause another instant
        if applied == len(events):
            return ends[0][0] if ends else None
        at = events[applied][0]
        return min(at, ends[0][0]) if ends else at

    def _end_jobs(self, now: float) -> bool:
        """End the jobs that end now. Returns whether there were any."""
        ends, some = self._ends, False
        while ends and ends[0][0] <= now:
            _, _, workload, group = heapq.heappop(ends)
            if workload in self._running:
                some = True
                self._jobs_ended(workload, group.jobs, group.result, group.boxes, now)
        return some

    def _jobs_ended(
        self,
        workload: WorkloadId,
        jobs: tuple[int, ...],
        result: Result,
        boxes: Sequence[tuple[str, int]],
        now: float,
    ) -> None:
        self._meter.released(boxes)
        self._follow(self._core.apply(JobsEnded(workload, jobs, result), now), now)

    def _apply(self, asked: Asked, now: float) -> None:
        if isinstance(asked, Submit):
            self._records.append(SimulatedTimes(registered_at=now))
            self._asks[asked.id] = asked.jobs
            self._jobs += len(asked.jobs)
        elif isinstance(asked, PlanRead):
            self._plan(asked)
        elif isinstance(asked, BoxesWanted):
            self._meter.wanted(asked.box_type, asked.count)
        event = asked.planned if isinstance(asked, PlanRead) else asked
        self._follow(self._core.apply(event, now), now)

    def _plan(self, read: PlanRead) -> None:
        """Store the jobs that were read, like the core: once, while the workload is unfinished."""
        workload, jobs = read.planned.workload, read.planned.jobs
        if jobs is None or self._asks.get(workload) != ():
            return
        self._asks[workload] = jobs
        self._jobs += len(jobs)
        self._course[workload_index(workload)] = read.course

    def _settle(self, now: float) -> None:
        self._follow(self._core.settle(now), now)
        while self._end_jobs(now):
            self._follow(self._core.settle(now), now)

    def _follow(self, decisions: Sequence[Decision], now: float) -> None:
        for decision in decisions:
            # the most frequent decision, which has no effect here
            if isinstance(decision, BoxFreed):
                continue
            if isinstance(decision, Admitted):
                self._start(decision.workload, now)
            elif isinstance(decision, Queued):
                self._records[workload_index(decision.workload)].queued_at = now
            elif isinstance(decision, Finished):
                self._running.discard(decision.workload)
                self._finish(decision.workload, decision.result, now)
            elif isinstance(decision, StopJobs):
                boxes = held(decision.jobs, self._asks[decision.workload])
                self._jobs_ended(decision.workload, decision.jobs, Result.STOPPED, boxes, now)
            elif isinstance(decision, Canceled):
                self._finish(decision.workload, Result.CANCELED, now)
            elif isinstance(decision, PlanFailed):
                self._finish(decision.workload, Result.FAILED, now)
            elif isinstance(decision, Refused):
                self._finish(decision.workload, Result.REFUSED, now)

    def _start(self, workload: WorkloadId, now: float) -> None:
        self._records[workload_index(workload)].started_at = now
        self._running.add(workload)
        for group in self._course[workload_index(workload)]:
            self._pushed += 1
            heapq.heappush(self._ends, (now + group.seconds, self._pushed, workload, group))
            self._meter.taken(group.boxes)

    def _finish(self, workload: WorkloadId, result: Result, now: float) -> None:
        record = self._records[workload_index(workload)]
        record.finished_at = now
        record.result = result
        del self._asks[workload]
        self._meter.mark()

    def _outcome(self) -> Outcome:
        summary = summarize(
            self._records, self._jobs, self._meter.makespan, self._meter.utilization
        )
        return Outcome(self._scenario, self._records, summary)
