"""The core itself: events in, decisions out, nothing else. See the package for the theory."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from boxsched.model import (
    BoxId,
    Cancellation,
    Kind,
    Policy,
    ProjectId,
    WorkloadId,
    queue_key,
)
from boxsched.scheduling.admission import Pass, Usage, Verdict
from boxsched.scheduling.boxes import Box, Pool
from boxsched.scheduling.ordering import Lanes
from boxsched.scheduling.queue import Queue
from boxsched.scheduling.values import (
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
    GivenAgain,
    JobAsk,
    JobsEnded,
    JobsFound,
    JobsLost,
    ProjectLimited,
    Queued,
    QueueRules,
    Refused,
    Stop,
    StopJobs,
    Submit,
)
from boxsched.scheduling.workload import Ask, ProjectUse, Run, RunningGroup, Workload, ask_for
from boxsched.states import TRANSITIONS, Move, Result, State, StopCause, moved


class Scheduler:
    """One organization's workloads and Boxes. The same events and times: the same decisions."""

    def __init__(self, rules: QueueRules, box_types: Sequence[str] = ()) -> None:
        self.rules = rules
        self.pools: dict[str, Pool] = {}
        self.boxes: dict[BoxId, Box] = {}
        self.workloads: dict[WorkloadId, Workload] = {}
        self.projects: dict[ProjectId, ProjectUse] = {}
        self.lanes = Lanes()
        self.queue = Queue()
        self.usage = Usage()
        self._asks: dict[tuple[JobAsk, ...], Ask] = {}
        self._next_box = 1
        # Jobs to be given again, in order, and whether they have ended where they were.
        self._lost: dict[tuple[WorkloadId, int], bool] = {}
        self._apply: dict[type, Callable[[Any, float, list[Decision]], None]] = {
            Submit: self._submit,
            Stop: self._stop,
            JobsEnded: self._jobs_ended,
            BoxAdded: self._box_added,
            BoxRetired: self._box_retired,
            BoxesAway: self._boxes_away,
            BoxesBack: self._boxes_back,
            JobsLost: self._jobs_lost,
            JobsFound: self._jobs_found,
            BoxesWanted: self._boxes_wanted,
            ProjectLimited: self._project_limited,
        }
        for box_type in box_types:
            self._pool(box_type)

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
        if self._lost:
            self._give_again(decisions)
        # 3. Admission: who fits, whole.
        while len(self.queue) and self._pass(now, decisions):
            pass
        return decisions

    # --- Events -----------------------------------------------------------------------------

    def _submit(self, event: Submit, now: float, decisions: list[Decision]) -> None:
        project = self._project(event.project)
        total = len(event.jobs)
        for limit in (self.rules.max_boxes, project.limit):
            if limit is not None and total > limit:
                decisions.append(Refused(event.id))
                return
        workload = self._register(event)
        if event.cancellation is not Cancellation.NONE and event.kind is Kind.BUILD:
            for earlier in self.lanes.members(event.lane):
                self._supersede(earlier, workload, event.cancellation, decisions)
        self.lanes.append(workload, event.lane)

    def _register(self, event: Submit) -> Workload:
        project = self._project(event.project)
        project.unfinished += 1
        ask = self._ask(event.jobs)
        workload = Workload(
            event.id, event.kind, project, event.branch, ask, None,
            event.fail_fast, event.created_at, event.priority,
        )  # fmt: skip
        key = queue_key(event.priority, event.created_at, event.id, self.rules.priority_aging)
        workload.entry = (*key, workload)
        assert event.id not in self.workloads
        self.workloads[event.id] = workload
        return workload

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
        workload.state = moved(TRANSITIONS, workload.state, Move.CANCELED)
        self._forget(workload)
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
        for job in run.live_jobs():
            self._lost.pop((workload.id, job), None)
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
            workload.state = moved(TRANSITIONS, workload.state, Move.JOBS_ENDED)
            self._forget(workload)
            decisions.append(Finished(workload.id, _result(run)))
        elif run.failed and workload.fail_fast and run.stop_cause is None:
            self._stop_jobs(workload, StopCause.FAIL_FAST, None, decisions)

    def _free_boxes(
        self, workload: Workload, run: Run, jobs: tuple[int, ...], decisions: list[Decision]
    ) -> None:
        group_of, project, branch = workload.ask.group_of, workload.project, workload.branch
        freed = 0
        for job in jobs:
            box = run.boxes[job]
            if box is None:
                continue  # it was reported twice
            run.boxes[job] = None
            self._lost.pop((workload.id, job), None)
            freed += 1
            group = run.groups[group_of[job]]
            group.jobs -= 1
            if not box.retired:
                group.returning -= 1
            if not group.jobs:
                self.usage.remove(group)
            gone = box.pool.give_back(box, project.id, branch)
            if gone:
                del self.boxes[box.id]
            decisions.append(BoxFreed(box.id, gone))
        run.live -= freed
        self.usage.boxes -= freed
        project.used -= freed

    def _box_added(self, event: BoxAdded, now: float, decisions: list[Decision]) -> None:
        known = self.boxes.get(event.box)
        if known is not None:
            if known.retired:  # its worker is back with it before its job has ended
                known.pool.keep(known)
                assert known.group is not None
                known.group.returning += 1
            return
        pool = self._pool(event.box_type)
        box = Box(event.box, pool)
        box.ran(event.last_project, event.last_branch)
        self.boxes[box.id] = box
        pool.add(box)

    def _box_retired(self, event: BoxRetired, now: float, decisions: list[Decision]) -> None:
        box = self.boxes.get(event.box)
        if box is None or box.retired:
            return
        if box.pool.retire(box):
            del self.boxes[box.id]
            decisions.append(BoxFreed(box.id, gone=True))
        else:
            assert box.group is not None
            box.group.returning -= 1

    def _boxes_away(self, event: BoxesAway, now: float, decisions: list[Decision]) -> None:
        for box in self._known(event.boxes):
            box.pool.lose_sight(box)

    def _boxes_back(self, event: BoxesBack, now: float, decisions: list[Decision]) -> None:
        for box in self._known(event.boxes):
            box.pool.see_again(box)

    def _known(self, boxes: Iterable[BoxId]) -> list[Box]:
        return [self.boxes[box] for box in boxes if box in self.boxes]

    def _jobs_lost(self, event: JobsLost, now: float, decisions: list[Decision]) -> None:
        workload = self.workloads.get(event.workload)
        if workload is not None and workload.run is not None:
            for job in event.jobs:
                if workload.run.boxes[job] is not None:
                    self._lost[workload.id, job] = event.ended

    def _jobs_found(self, event: JobsFound, now: float, decisions: list[Decision]) -> None:
        for job in event.jobs:
            self._lost.pop((event.workload, job), None)

    def _give_again(self, decisions: list[Decision]) -> None:
        """Each takes the first free Box of its type; the one it had is given back."""
        for (id_, job), ended in list(self._lost.items()):
            workload = self.workloads[id_]
            run = workload.run
            assert run is not None
            old = run.boxes[job]
            assert old is not None
            pool = old.pool
            if not pool.free:
                if ended and not (old.retired or old.away):
                    del self._lost[id_, job]
                    decisions.append(GivenAgain(id_, job, old.id))
                continue
            new = pool.first_free()
            pool.occupy(new)
            group = run.groups[workload.ask.group_of[job]]
            group.returning += old.retired
            run.boxes[job], new.group = new, group
            del self._lost[id_, job]
            gone = pool.give_back(old, workload.project.id, workload.branch)
            if gone:
                del self.boxes[old.id]
            decisions.append(BoxFreed(old.id, gone))
            decisions.append(GivenAgain(id_, job, new.id))

    def _boxes_wanted(self, event: BoxesWanted, now: float, decisions: list[Decision]) -> None:
        came, went = self._pool(event.box_type).want(event.count, self._next_box)
        self._next_box += len(came)
        for box in came:
            self.boxes[box.id] = box
        for gone in went:
            del self.boxes[gone]
            decisions.append(BoxFreed(gone, gone=True))

    def _project_limited(
        self, event: ProjectLimited, now: float, decisions: list[Decision]
    ) -> None:
        project = self._project(event.project)
        if (project.limit is None) == (event.max_boxes is None):
            project.limit = event.max_boxes
        else:
            self.queue.regroup(project, event.max_boxes)

    # --- Admission and assignment -----------------------------------------------------------

    def _pass(self, now: float, decisions: list[Decision]) -> bool:
        """One pass over the queue; True where another could admit somebody.

        What a pass hands out makes room for nobody, with one exception: what it lets past the head
        can put the head over its project's limit, and then the head holds back nobody else.
        """
        turn = Pass(self.rules, self.usage, self.pools.values(), now)
        strict = self.rules.policy is Policy.STRICT
        queue, place, again = self.queue, 0, False
        while turn.anything_left():
            while True:
                if turn.head is not None:
                    if strict:
                        return again
                    place = queue.skip_hopeless(place)
                shape = queue.shape_at(place)
                if shape is None:
                    return again
                if turn.judge(shape) is Verdict.ADMIT:
                    break
                place += 1
            workload = shape.head
            again = again or (turn.head is not None and turn.head.project is workload.project)
            queue.remove(workload)
            # 4. Assignment: which Box runs which job.
            decisions.append(self._admit(workload, now))
            turn.admitted(workload)
        return again

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
        counts = [(count, count) for _, _, count in ask.groups]
        self._run(workload, boxes, ask.total, counts, now)
        return Admitted(workload.id, tuple(ids), warm)

    def _run(
        self,
        workload: Workload,
        boxes: list[Box | None],
        live: int,
        counts: list[tuple[int, int]],
        started_at: float,
    ) -> None:
        """``counts``: of each group, the jobs that run and the Boxes that will return."""
        groups = []
        for number, (pool, expected, _) in enumerate(workload.ask.groups):
            end = started_at + expected
            group = RunningGroup(end, workload, pool, *counts[number])
            group.entry = (end, workload.id, number, group)
            groups.append(group)
            if group.jobs:
                self.usage.add(group)
        for box, number in zip(boxes, workload.ask.group_of, strict=True):
            if box is not None:
                box.group = groups[number]
        workload.run = Run(started_at, boxes, live, groups)
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
    ) -> None:
        """Put an unfinished workload back as it was, in the order of the ids. ``boxes`` by job:
        None where it has ended; they must have been added, and be free."""
        workload = self._register(event)
        self.lanes.append(workload, event.lane)
        workload.state = state
        if state is State.QUEUED:
            self.queue.add(workload)
        if started_at is not None:
            held = [None if box is None else self.boxes[box] for box in boxes]
            counts = [(0, 0)] * len(workload.ask.groups)
            for held_box, number in zip(held, workload.ask.group_of, strict=True):
                if held_box is not None:
                    held_box.pool.occupy(held_box)
                    jobs, returning = counts[number]
                    counts[number] = (jobs + 1, returning + 1)
            self._run(workload, held, sum(jobs for jobs, _ in counts), counts, started_at)
            assert workload.run is not None
            workload.run.failed, workload.run.stop_cause = failed, stop_cause

    # --- Small things -----------------------------------------------------------------------

    def _forget(self, workload: Workload) -> None:
        """It has finished: its lane goes on, and nothing of it stays."""
        self.lanes.remove(workload)
        del self.workloads[workload.id]
        workload.entry = None
        ask, project = workload.ask, workload.project
        ask.users -= 1
        if not ask.users:
            del self._asks[ask.jobs]
            for pool, _ in ask.needs:
                pool.asks -= 1
                if not pool.asks and not pool.boxes and not pool.wanted:
                    del self.pools[pool.box_type]  # a type that was only asked for
        project.unfinished -= 1
        if not project.unfinished and project.limit is None:
            del self.projects[project.id]

    def _pool(self, box_type: str) -> Pool:
        pool = self.pools.get(box_type)
        if pool is None:
            pool = self.pools[box_type] = Pool(box_type)
        return pool

    def _project(self, project: ProjectId) -> ProjectUse:
        use = self.projects.get(project)
        if use is None:
            use = self.projects[project] = ProjectUse(project)
        return use

    def _ask(self, jobs: tuple[JobAsk, ...]) -> Ask:
        ask = self._asks.get(jobs)
        if ask is None:
            for job in jobs:
                self._pool(job.box_type)
            ask = self._asks[jobs] = ask_for(jobs, self.pools)
            for pool, _ in ask.needs:
                pool.asks += 1
        ask.users += 1
        return ask

    def check(self) -> None:
        """Its structures agree with one another; raises AssertionError."""
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
        for project in self.projects.values():
            mine = [w for w in self.workloads.values() if w.project is project]
            assert project.unfinished == len(mine)
            assert project.used == sum(w.run.live for w in mine if w.run is not None)
        groups = [g for w in runs if w.run for g in w.run.groups if g.jobs]
        assert sorted(g.entry for g in groups) == self.usage.running
        for w in runs:
            assert w.run is not None and w.run.live == sum(g.jobs for g in w.run.groups) > 0
            assert all(0 <= g.returning <= g.jobs for g in w.run.groups)
        assert sum(a.users for a in self._asks.values()) == len(self.workloads)


def _result(run: Run) -> Result:
    """Contract, "Results": asked to stop beats a failure before; fail-fast is a failure."""
    if run.stop_cause in (StopCause.ASKED, StopCause.SUPERSEDED):
        return Result.STOPPED
    return Result.FAILED if run.failed else Result.PASSED
