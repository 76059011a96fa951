"""The core itself: events in, decisions out, nothing else. See the package for the theory."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from boxsched.model import (
    BoxId,
    Cancellation,
    Kind,
    Policy,
    WorkloadId,
)
from boxsched.scheduling.admission import Pass, Usage, Verdict
from boxsched.scheduling.box_types import Fleet
from boxsched.scheduling.boxes import Box
from boxsched.scheduling.interface import (
    Admitted,
    BoxAdded,
    BoxesAway,
    BoxesBack,
    BoxesWanted,
    BoxFreed,
    BoxRetired,
    Canceled,
    Decision,
    Event,
    Finished,
    JobsEnded,
    JobsFound,
    JobsLost,
    ProjectLimited,
    Promised,
    Queued,
    QueueRules,
    Refused,
    Stop,
    StopJobs,
    Submit,
)
from boxsched.scheduling.lost import LostJobs
from boxsched.scheduling.ordering import Lanes
from boxsched.scheduling.queue import Queue
from boxsched.scheduling.register import Register
from boxsched.scheduling.workload import Run, RunningGroup, Workload, number_given_again
from boxsched.states import TRANSITIONS, Move, Result, State, StopCause, moved

APART_AT_ONCE = 500  # workloads


class Scheduler:
    """One organization's workloads and Boxes. The same events and times: the same decisions."""

    def __init__(self, rules: QueueRules, box_types: Sequence[str] = ()) -> None:
        self.rules = rules
        self.fleet = Fleet(box_types)
        self.pools = self.fleet.pools
        self.boxes = self.fleet.boxes
        self.register = Register(rules, self.fleet)
        self.workloads = self.register.workloads
        self.lanes = Lanes()
        self.queue = Queue()
        self.usage = Usage()
        self.lost = LostJobs()
        self._apply: dict[type, Callable[[Any, float, list[Decision]], None]] = {
            Submit: self._submit,
            Stop: self._stop,
            JobsEnded: self._jobs_ended,
            BoxAdded: self.fleet.added,
            BoxRetired: self.fleet.retired,
            BoxesAway: self.fleet.away,
            BoxesBack: self.fleet.back,
            JobsLost: self._jobs_lost,
            JobsFound: self._jobs_found,
            BoxesWanted: self.fleet.wanted,
            ProjectLimited: self._project_limited,
        }

    # --- An instant -------------------------------------------------------------------------

    def decide(self, events: Iterable[Event], now: float) -> list[Decision]:
        """One instant: all jobs that ended, then what was asked in its order, then ``settle``."""
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
        """What the event itself does; nothing leaves ordering or is admitted before ``settle``."""
        decisions: list[Decision] = []
        self._apply[type(event)](event, now, decisions)
        return decisions

    def settle(self, now: float) -> list[Decision]:
        """Rounds until nothing changes: ordering, then a pass of admission with assignment."""
        decisions: list[Decision] = []
        # 1. Ordering: whose lane is free. Once: a pass ends no workload, so it moves no lane.
        for workload in self.lanes.leaving():
            workload.state = moved(TRANSITIONS, workload.state, Move.LANE_FREE)
            self.queue.add(workload)
            decisions.append(Queued(workload.id))
        # 2. Jobs to be given again come before all that has no Box yet.
        if self.lost:
            self.lost.give_again(self.workloads, self.boxes, self.usage, now, decisions)
        # 3. Admission: who fits, whole.
        self.usage.advance(now)
        while len(self.queue) and self._pass(now, decisions):
            pass
        return decisions

    # --- Events -----------------------------------------------------------------------------

    def _submit(self, event: Submit, now: float, decisions: list[Decision]) -> None:
        project = self.register.project(event.project)
        total = len(event.jobs)
        for limit in (self.rules.max_boxes, project.limit):
            if limit is not None and total > limit:
                decisions.append(Refused(event.id))
                self.register.release(project)
                return
        workload = self.register.enter(event)
        if event.cancellation is not Cancellation.NONE and event.kind is Kind.BUILD:
            for earlier in self.lanes.members(event.lane):
                self._supersede(earlier, workload, event.cancellation, decisions)
        self.lanes.append(workload, event.lane)

    def _supersede(
        self,
        earlier: Workload,
        newer: Workload,
        strategy: Cancellation,
        decisions: list[Decision],
    ) -> None:
        if earlier.run is None:
            self._cancel(earlier, newer.id, decisions)
        elif strategy is Cancellation.ALL:
            self._stop_jobs(earlier, StopCause.SUPERSEDED, newer.id, decisions)

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
        if run.stop_cause in (StopCause.ASKED, StopCause.SUPERSEDED):
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
        self._free_boxes(workload, run, event.jobs, decisions)
        if event.result is not Result.PASSED:
            run.failed = True
        if not run.live:
            self._finish(workload, Move.JOBS_ENDED)
            decisions.append(Finished(workload.id, _result(run)))
        elif run.failed and workload.fail_fast and run.stop_cause is None:
            self._stop_jobs(workload, StopCause.FAIL_FAST, None, decisions)

    def _free_boxes(
        self, workload: Workload, run: Run, jobs: tuple[int, ...], decisions: list[Decision]
    ) -> None:
        project, branch = workload.project, workload.branch
        freed = 0
        for job in jobs:
            box = run.boxes[job]
            if box is None:
                continue  # it was reported twice
            run.boxes[job] = None
            freed += 1
            self.usage.leave(box)
            gone = box.pool.give_back(box, project.id, branch)
            if gone:
                del self.boxes[box.id]
            decisions.append(BoxFreed(box.id, gone))
        self.lost.forget(workload.id, jobs)
        run.live -= freed
        self.usage.boxes -= freed
        project.used -= freed

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

    # --- Admission and assignment -----------------------------------------------------------

    def _pass(self, now: float, decisions: list[Decision]) -> bool:
        """One pass over the queue; True where another could admit somebody.

        What a pass hands out makes room for nobody, with one exception: what it lets past the head
        can put the head over its project's limit, and then the head holds back nobody else.
        """
        turn = Pass(self.rules, self.usage, self.pools.values(), now)
        goes_on = self.rules.policy is not Policy.STRICT
        queue, place, again = self.queue, 0, False
        while True:
            # Where nothing is free there is still a head to find: it gets its promise.
            room = turn.anything_left()
            if not room and not turn.lacks_head():
                return again
            while True:
                if turn.head is not None:
                    if not (goes_on and room):
                        return again
                    place = queue.skip_hopeless(place)
                shape = queue.shape_at(place)
                if shape is None:
                    return again
                if turn.judge(shape) is Verdict.ADMIT:
                    break
                if turn.head is shape:
                    self._promise(turn, decisions)
                place += 1
            workload = shape.head
            again = again or (turn.head is not None and turn.head.project is workload.project)
            queue.remove(workload)
            # 4. Assignment: which Box runs which job.
            decisions.append(self._admit(workload, now))
            turn.admitted(workload)

    def _promise(self, turn: Pass, decisions: list[Decision]) -> None:
        """The first time that is reserved for a head is its promise, and stays."""
        at = turn.promise()
        if at is not None:
            assert turn.head is not None
            head = turn.head.head
            head.promise = at
            decisions.append(Promised(head.id, at))

    def _admit(self, workload: Workload, now: float) -> Admitted:
        project, branch, ask = workload.project, workload.branch, workload.ask
        boxes: list[Box | None] = []
        ids: list[BoxId] = []
        warm = 0
        for pool in ask.pool_of:
            box, was_warm = pool.take(project.id, branch)
            boxes.append(box)
            ids.append(box.id)
            warm += was_warm
        workload.state = moved(TRANSITIONS, workload.state, Move.ADMITTED)
        self._run(workload, boxes, now)
        return Admitted(workload.id, tuple(ids), warm)

    def _run(
        self,
        workload: Workload,
        boxes: list[Box | None],
        started_at: float,
        given_again: Mapping[int, float] = MappingProxyType({}),
    ) -> None:
        """``given_again``: of jobs that were, when; the others started with the workload."""
        groups: dict[int, RunningGroup] = {}
        live = 0
        for job, (box, of) in enumerate(zip(boxes, workload.ask.group_of, strict=True)):
            if box is None:
                continue
            live += 1
            number = of if job not in given_again else number_given_again(workload.ask, job)
            group = groups.get(number)
            if group is None:
                since = given_again.get(job, started_at)
                group = RunningGroup(since, workload.ask.groups[of], workload, number, 0, 0)
                groups[number] = group
            group.jobs += 1
            group.returning += not box.retired
            box.group = group
        for group in groups.values():
            self.usage.add(group)
        workload.run = Run(started_at, boxes, live)
        self.usage.boxes += live
        workload.project.used += live

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
    ) -> None:
        """Put an unfinished workload back as it was, in the order of the ids. ``boxes`` by job:
        None where it has ended; they must have been added, and be free. ``promise``: see
        ``Promised``. ``given_again``: of running jobs that were given again (``GivenAgain``),
        when."""
        workload = self.register.enter(event)
        workload.promise = promise
        self.lanes.append(workload, event.lane)
        workload.state = state
        if state is State.QUEUED:
            self.queue.add(workload)
        if started_at is not None:
            held = [None if box is None else self.boxes[box] for box in boxes]
            for held_box in held:
                if held_box is not None:
                    held_box.pool.occupy(held_box)
            self._run(workload, held, started_at, given_again)
            assert workload.run is not None
            workload.run.failed, workload.run.stop_cause = failed, stop_cause

    # --- Small things -----------------------------------------------------------------------

    def _finish(self, workload: Workload, move: Move) -> None:
        """Its lane goes on, and nothing of it stays."""
        workload.state = moved(TRANSITIONS, workload.state, move)
        self.lanes.remove(workload)
        self.register.strike(workload)
        workload.take_apart()

    def take_apart(self) -> Iterator[None]:
        """Free a core that is not used any more, some workloads a step: a large one takes long. It
        is freed without the garbage collector: no reference cycle is left."""
        self._apply.clear()  # methods of itself
        yield from self.queue.take_apart(APART_AT_ONCE)
        yield from self.lanes.take_apart(APART_AT_ONCE)
        while self.workloads:
            for _ in range(min(APART_AT_ONCE, len(self.workloads))):
                self.workloads.popitem()[1].take_apart()
            yield
        self.fleet.take_apart()

    def check(self) -> None:
        """Its structures agree with one another; raises AssertionError."""
        self.register.check()
        self.lanes.check()
        self.queue.check()
        for pool in self.pools.values():
            pool.check()
        assert sum(len(p.boxes) for p in self.pools.values()) == len(self.boxes)
        runs = [w for w in self.workloads.values() if w.run is not None]
        busy = [b.id for w in runs if w.run for b in w.run.boxes if b is not None]
        assert len(busy) == len(set(busy)) == self.usage.boxes
        assert set(busy) == {b.id for b in self.boxes.values() if b.busy}
        assert len(self.queue) == sum(w.state is State.QUEUED for w in self.workloads.values())
        groups = [g for w in runs if w.run for g in w.run.groups()]
        usage = self.usage
        assert sorted(g.entry for g in groups if not g.late) == usage.running
        assert sorted(g.entry for g in groups if g.late) == usage.late
        assert all(entry[0] == entry[3].end for entry in usage.running)
        assert all(entry[0] == entry[3].last >= entry[3].end for entry in usage.late)
        for w in runs:
            assert w.run is not None and w.run.live == sum(g.jobs for g in w.run.groups()) > 0
            assert all(0 <= g.returning <= g.jobs for g in w.run.groups())


def _result(run: Run) -> Result:
    """docs/scheduling.md, "Results": asked to stop beats a failure before; fail-fast fails."""
    if run.stop_cause in (StopCause.ASKED, StopCause.SUPERSEDED):
        return Result.STOPPED
    return Result.FAILED if run.failed else Result.PASSED
