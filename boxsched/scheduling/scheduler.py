"""The core itself: events in, decisions out. The package's docstring explains how it works."""

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from boxsched.model import BoxId, WorkloadId
from boxsched.scheduling import consistency
from boxsched.scheduling.admission import run_pass
from boxsched.scheduling.box_types import Fleet
from boxsched.scheduling.interface import (
    BoxAdded,
    BoxesAway,
    BoxesBack,
    BoxesWanted,
    BoxRetired,
    Canceled,
    Decision,
    Event,
    Finished,
    JobsEnded,
    JobsFound,
    JobsLost,
    LaneIdle,
    Pause,
    PlanFailed,
    Planned,
    Prioritized,
    ProjectLimited,
    Queued,
    QueueRules,
    Refused,
    Reprioritize,
    Resume,
    Stop,
    StopJobs,
    Submit,
)
from boxsched.scheduling.lost import LostJobs
from boxsched.scheduling.ordering import Lanes
from boxsched.scheduling.pauses import Pauses
from boxsched.scheduling.queue import Queue
from boxsched.scheduling.register import Register
from boxsched.scheduling.running import free_boxes, run_on
from boxsched.scheduling.superseding import (
    FINAL_CAUSES,
    count_anew,
    lane_begins_anew,
    superseded,
)
from boxsched.scheduling.usage import Usage
from boxsched.scheduling.workload import ProjectUse, Run, Workload
from boxsched.states import TRANSITIONS, Move, Result, State, StopCause, moved

APART_AT_ONCE = 500  # workloads


class Scheduler:
    """One organization's workloads and Boxes.

    The same events at the same times always give the same decisions.
    """

    def __init__(self, rules: QueueRules, box_types: Sequence[str] = ()) -> None:
        self.rules = rules
        self.fleet = Fleet(box_types)
        self.pools = self.fleet.pools
        self.boxes = self.fleet.boxes
        self.register = Register(rules, self.fleet)
        self.workloads = self.register.workloads
        self.lanes = Lanes()
        self.queue = Queue()
        self.pauses = Pauses(self.queue)
        self.usage = Usage()
        self.lost = LostJobs()
        self._apply: dict[type, Callable[[Any, float, list[Decision]], None]] = {
            Submit: self._submit,
            Planned: self._planned,
            Stop: self._stop,
            Pause: self.pauses.pause,
            Resume: self.pauses.resume,
            Reprioritize: self._reprioritize,
            JobsEnded: self._jobs_ended,
            BoxAdded: self.fleet.added,
            BoxRetired: self.fleet.retired,
            BoxesAway: self.fleet.away,
            BoxesBack: self.fleet.back,
            JobsLost: self._jobs_lost,
            JobsFound: self._jobs_found,
            BoxesWanted: self.fleet.wanted,
            ProjectLimited: self._project_limited,
            LaneIdle: self._lane_idle,
        }

    # --- An instant -------------------------------------------------------------------------

    def decide(self, events: Iterable[Event], now: float) -> list[Decision]:
        """Apply one instant: all jobs that ended, then requests in their order, then ``settle``."""
        decisions: list[Decision] = []
        events = list(events)
        for event in events:
            if type(event) is JobsEnded:
                self._jobs_ended(event, now, decisions)
        for event in events:
            if type(event) is not JobsEnded:
                self._apply[type(event)](event, now, decisions)
        decisions += self.settle(now)
        return decisions

    def apply(self, event: Event, now: float) -> list[Decision]:
        """Apply one event. No workload leaves ordering or is admitted before ``settle``."""
        decisions: list[Decision] = []
        self._apply[type(event)](event, now, decisions)
        return decisions

    def settle(self, now: float) -> list[Decision]:
        """Run rounds until nothing changes: ordering, then a pass of admission with assignment."""
        decisions: list[Decision] = []
        # 1. Ordering, once: a pass ends no workload, so it frees no lane.
        for workload in self.lanes.leaving():
            workload.state = moved(TRANSITIONS, workload.state, Move.LANE_FREE)
            self.pauses.enqueue(workload)
            decisions.append(Queued(workload.id))
        # 2. Lost jobs get Boxes before any waiting workload.
        if self.lost:
            self.lost.give_again(self.workloads, self.boxes, self.usage, now, decisions)
        # 3. Admission: workloads for which enough Boxes are free, never in part.
        self.usage.advance(now)
        while len(self.queue) and self._pass(now, decisions):
            pass  # seldom more than two (ARCHITECTURE.md, "How many passes an instant")
        return decisions

    def _pass(self, now: float, decisions: list[Decision]) -> bool:
        pools = self.pools.values()
        return run_pass(self.rules, self.queue, self.usage, pools, now, decisions)

    # --- Events -----------------------------------------------------------------------------

    def _submit(self, event: Submit, now: float, decisions: list[Decision]) -> None:
        project = self.register.project(event.project)
        if self._too_many(len(event.jobs), project):
            decisions.append(Refused(event.id))
            self.register.release(project)
            return
        workload = self.register.enter(event)
        for earlier in superseded(event, self.lanes, decisions):
            if earlier.run is None:
                self._cancel(earlier, event.id, decisions)
            else:
                self._stop_jobs(earlier, StopCause.SUPERSEDED, event.id, decisions)
        self.lanes.append(workload, event.lane)

    def _too_many(self, jobs: int, project: ProjectUse) -> bool:
        """Whether the plan or the project's limit never allows so many jobs."""
        plan, limit = self.rules.max_boxes, project.limit
        return (plan is not None and jobs > plan) or (limit is not None and jobs > limit)

    def _planned(self, event: Planned, now: float, decisions: list[Decision]) -> None:
        workload = self.workloads.get(event.workload)
        if workload is None or workload.planned:
            return
        if not event.jobs or self._too_many(len(event.jobs), workload.project):
            count_anew(workload, self.lanes, decisions)
            self._finish(workload, Move.PLAN_FAILED)
            decisions.append(PlanFailed(event.workload, event.jobs))
            return
        self.register.plan(workload, event.jobs)
        self.lanes.planned(workload)

    def _lane_idle(self, event: LaneIdle, now: float, decisions: list[Decision]) -> None:
        if not self.lanes.members(event.lane):
            lane_begins_anew(event.lane, self.lanes, decisions)

    def _reprioritize(self, event: Reprioritize, now: float, decisions: list[Decision]) -> None:
        workload = self.workloads.get(event.workload)
        if workload is None or workload.run is not None or workload.priority == event.priority:
            return
        queued = workload.state is State.QUEUED
        if queued:
            self.queue.remove(workload)
        workload.priority = event.priority
        self.register.place(workload)
        if queued:
            self.pauses.enqueue(workload)
        decisions.append(Prioritized(workload.id, event.priority))

    def _stop(self, event: Stop, now: float, decisions: list[Decision]) -> None:
        workload = self.workloads.get(event.workload)
        if workload is None:
            return
        if workload.run is None:
            self._cancel(workload, None, decisions)
        else:
            self._stop_jobs(workload, StopCause.ASKED, None, decisions)

    def _cancel(self, workload: Workload, by: WorkloadId | None, decisions: list[Decision]) -> None:
        if workload.state is State.QUEUED:
            self.queue.remove(workload)
        self._finish(workload, Move.CANCELED)
        decisions.append(Canceled(workload.id, by))

    def _stop_jobs(
        self,
        workload: Workload,
        cause: StopCause,
        by: WorkloadId | None,
        decisions: list[Decision],
    ) -> None:
        run = workload.run
        assert run is not None
        if run.stop_cause in FINAL_CAUSES:
            return
        run.stop_cause = cause
        self.lost.forget(workload.id, run.live_jobs())
        workload.state = moved(TRANSITIONS, workload.state, Move.STOP_ASKED)
        decisions.append(StopJobs(workload.id, run.live_jobs(), cause, by))

    def _jobs_ended(self, event: JobsEnded, now: float, decisions: list[Decision]) -> None:
        workload = self.workloads.get(event.workload)
        run = workload.run if workload is not None else None
        if workload is None or run is None:
            return
        free_boxes(workload, event.jobs, self.boxes, self.usage, decisions)
        self.lost.forget(workload.id, event.jobs)
        if event.result is not Result.PASSED:
            run.failed = True
        if not run.live:
            if run.stop_cause not in FINAL_CAUSES:
                count_anew(workload, self.lanes, decisions)
            self._finish(workload, Move.JOBS_ENDED)
            decisions.append(Finished(workload.id, _result(run)))
        elif run.failed and workload.fail_fast and run.stop_cause is None:
            self._stop_jobs(workload, StopCause.FAIL_FAST, None, decisions)

    def _jobs_lost(self, event: JobsLost, now: float, decisions: list[Decision]) -> None:
        workload = self.workloads.get(event.workload)
        if workload is not None:
            self.lost.add(workload, event.jobs, ended=event.ended)

    def _jobs_found(self, event: JobsFound, now: float, decisions: list[Decision]) -> None:
        self.lost.forget(event.workload, event.jobs)

    def _project_limited(
        self, event: ProjectLimited, now: float, decisions: list[Decision]
    ) -> None:
        project = self.register.project(event.project)
        if (project.limit is None) == (event.max_boxes is None):
            project.limit = event.max_boxes
        else:
            self.queue.regroup(project, event.max_boxes)
        self.register.release(project)

    # --- After a restart --------------------------------------------------------------------

    def restore(
        self,
        event: Submit,
        state: State,
        started_at: float | None = None,
        boxes: Sequence[BoxId | None] = (),
        failed: bool = False,
        stop_cause: StopCause | None = None,
        promise: float | None = None,
        given_again: Mapping[int, float] = MappingProxyType({}),
        spared: bool = False,
    ) -> None:
        """Restore an unfinished workload. Call it in the order of the ids.

        ``boxes`` are by job, None where a job has ended; they must have been added and be free.
        ``promise``: see ``Promised``. ``given_again``: when each running job that was given again
        was given (``GivenAgain``), by its place.
        """
        workload = self.register.enter(event)
        workload.promise = promise
        workload.spared = spared
        self.lanes.append(workload, event.lane)
        workload.state = state
        if state is State.QUEUED:
            self.pauses.enqueue(workload)
        if started_at is not None:
            held = [None if box is None else self.boxes[box] for box in boxes]
            for held_box in held:
                if held_box is not None:
                    held_box.pool.occupy(held_box)
            run_on(workload, held, self.usage, started_at, given_again)
            assert workload.run is not None
            workload.run.failed, workload.run.stop_cause = failed, stop_cause

    def restore_lane(self, lane: Hashable, superseded: int) -> None:
        """Restore how many builds of a lane were superseded (``LaneCounted``)."""
        self.lanes.count_superseded(lane, superseded)

    # --- Other methods ----------------------------------------------------------------------

    def _finish(self, workload: Workload, move: Move) -> None:
        """Remove the workload from its lane, which goes on, and from the register."""
        workload.state = moved(TRANSITIONS, workload.state, move)
        self.lanes.remove(workload)
        self.register.strike(workload)
        workload.take_apart()

    def take_apart(self) -> Iterator[None]:
        """Free a core that is no longer used, APART_AT_ONCE workloads a step.

        It breaks all reference cycles, so the garbage collector, which would take long for a large
        core, has nothing to do.
        """
        self._apply.clear()  # the table contains its own methods
        yield from self.queue.take_apart(APART_AT_ONCE)
        yield from self.lanes.take_apart(APART_AT_ONCE)
        while self.workloads:
            for _ in range(min(APART_AT_ONCE, len(self.workloads))):
                self.workloads.popitem()[1].take_apart()
            yield
        self.fleet.take_apart()

    def check(self) -> None:
        """Raise AssertionError if two of its structures disagree; for tests."""
        consistency.check(self)


def _result(run: Run) -> Result:
    """Return the result (docs/scheduling.md, "Results"): a requested stop overrides an earlier
    failure; after fail-fast it is failed.
    """
    if run.stop_cause in FINAL_CAUSES:
        return Result.STOPPED
    return Result.FAILED if run.failed else Result.PASSED
