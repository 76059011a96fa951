"""The core is compared with the naive model, event by event and at random; it checks itself at each
step.

Besides equal states, it checks: I1 no use beyond Boxes, plan and limit; I2 admitted completely or
not at all; I3 one workload of a lane past ordering, in order; I8 a true reason for each.
"""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from boxsched.model import Cancellation, Kind, Policy, ServerQueue
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.interface import (
    Admitted,
    BoxAdded,
    BoxesWanted,
    BoxRetired,
    Canceled,
    Finished,
    GivenAgain,
    JobsEnded,
    JobsLost,
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
from tests.core.naive import ReferenceWithBoxes
from tests.core.reason_checks import reason_is_true
from tests.reference.queueing import Reference, phase, runs

TYPES = ("linux", "mac")
FEW = st.integers(0, 2)
WHICH = st.integers(0, 30)  # an index into the existing ones, modulo their number
ASKS = st.lists(
    st.builds(
        lambda box_type, expected, more: JobAsk(box_type, expected, expected + more),
        st.sampled_from(("linux", "linux", "mac")),
        st.sampled_from((1, 2, 5, 0)),
        st.sampled_from((0, 0, 1, 4)),
    ),
    min_size=1,
    max_size=4,
).map(tuple)
TIMES = ("queued_at", "started_at", "finished_at", "result")


class CoreMachine(RuleBasedStateMachine):
    by_name = True  # Boxes are added and removed one by one; otherwise a number is wanted

    @initialize(
        policy=st.sampled_from(Policy),
        plan=st.none() | st.integers(2, 5),
        aging=st.none() | st.sampled_from((0.5, 1.0)),
        boxes=st.tuples(st.integers(1, 4), FEW),
        limit=st.none() | st.integers(1, 4),
    )
    def begin(self, policy, plan, aging, boxes, limit):
        self.core = Scheduler(QueueRules(policy, plan, aging), box_types=TYPES)
        if self.by_name:
            self.naive = ReferenceWithBoxes(TYPES, policy, plan, aging)
        else:
            self.naive = Reference(dict.fromkeys(TYPES, 0), policy, plan, aging)
        self.now, self.settled = 0, True
        self.seen = {}  # workload -> the core's decisions about it
        self.held = {}  # workload -> its Boxes by job, as the core gave them
        self.last_box = 0
        for box_type, count in zip(TYPES, boxes, strict=True):
            for _ in range(count if self.by_name else 0):
                self.box_comes(box_type, True)
            if not self.by_name:
                self.so_many_are_wanted(box_type, count, True)
        self.a_project_is_limited(1, limit, True)

    # --- Steps ------------------------------------------------------------------------------

    @rule(
        kind=st.sampled_from((Kind.BUILD, Kind.BUILD, Kind.DEPLOY, Kind.SSH)),
        project=st.integers(1, 2),
        place=st.integers(1, 2),
        tag=st.sampled_from((False, False, False, True)),
        priority=st.sampled_from((50, 80)),
        jobs=ASKS,
        planned=st.sampled_from((True, True, True, False)),
        strategy=st.sampled_from(Cancellation),
        spare_after=st.none() | st.integers(1, 2),
        fail_fast=st.booleans(),
        by_itself=st.booleans(),
        queue=st.sampled_from(ServerQueue),
        settle=st.booleans(),
    )
    def a_workload_is_submitted(
        self, kind, project, place, tag, priority, jobs, planned, strategy, spare_after, fail_fast,
        by_itself, queue, settle,
    ):  # fmt: skip
        planned = planned or kind is not Kind.BUILD
        automatic = by_itself and kind is Kind.DEPLOY
        tag = tag and kind is Kind.BUILD
        branch = f"b{place}" if kind is Kind.BUILD and not tag else None
        strategy = strategy if branch else Cancellation.NONE
        lane = None if kind is Kind.SSH else (project, str(kind), tag, place)
        number = len(self.naive.workloads) + 1
        already = {w["id"] for w in self.naive.workloads if w["stop"] == "stopped"}
        self.seen[number] = dict.fromkeys(TIMES)
        decisions = self.core.apply(
            Submit(
                number, kind, project, branch, lane, priority, self.now, jobs if planned else (),
                strategy, fail_fast, spare_after, automatic, queue,
            ),
            self.now,
        )  # fmt: skip
        stopped = self.naive.submit(
            {
                "id": number, "kind": kind, "project": project, "branch": branch, "lane": lane,
                "priority": priority, "strategy": strategy, "fail_fast": fail_fast,
                "spare_after": spare_after, "automatic": automatic, "newest": queue == "newest",
                "server": place if kind is Kind.DEPLOY else None,
                "jobs": naive_jobs(jobs) if planned else None,
            },
            self.now,
        )  # fmt: skip
        asked = {d.workload for d in decisions if isinstance(d, StopJobs)}
        assert asked == {w["id"] for w in stopped} - already
        assert all(d.by == number for d in decisions if isinstance(d, StopJobs | Canceled))
        self.after(decisions, settle)

    @precondition(lambda self: self.naive.workloads)
    @rule(which=WHICH, jobs=st.none() | ASKS, settle=st.booleans())
    def a_plan_comes(self, which, jobs, settle):
        """Mostly for a build that waits for a plan; it may come again, or too late."""
        waits = [w for w in self.naive.workloads if w["jobs"] is None] or self.naive.workloads
        w = waits[-1 - which % len(waits)]
        decisions = self.core.apply(Planned(w["id"], jobs), self.now)
        self.naive.give_plan(w, jobs and naive_jobs(jobs), self.now)
        self.after(decisions, settle)

    @rule(
        name=st.sampled_from("ab"),
        project=st.none() | st.integers(1, 2),
        branch=st.sampled_from((None, None, "b1", "b*")),
        place=st.none() | st.integers(1, 2),
        automatic=st.booleans(),
        settle=st.booleans(),
    )
    def a_pause_begins(self, name, project, branch, place, automatic, settle):
        branch = branch if project else None
        place = place if project and not branch else None
        lane = (project, "deploy", False, place) if place else None
        pause = Pause(name, project, branch, lane, automatic)
        self.naive.pauses[name] = (project, branch, place, automatic)
        self.after(self.core.apply(pause, self.now), settle)

    @rule(name=st.sampled_from("ab"), settle=st.booleans())
    def a_pause_ends(self, name, settle):
        self.naive.pauses.pop(name, None)
        self.after(self.core.apply(Resume(name), self.now), settle)

    @precondition(lambda self: self.naive.workloads)
    @rule(which=WHICH, priority=st.sampled_from((0, 50, 80, 100)), settle=st.booleans())
    def another_priority_is_given(self, which, priority, settle):
        w = self.naive.workloads[-1 - which % len(self.naive.workloads)]
        before = w["priority"]
        decisions = self.core.apply(Reprioritize(w["id"], priority), self.now)
        self.naive.reprioritize(w, priority)
        assert bool(decisions) == (w["priority"] != before)
        self.after(decisions, settle)

    def of(self, phase_, which):
        found = [w for w in self.naive.workloads if phase(w) == phase_]
        return found[which % len(found)] if found else None

    @property
    def some_run(self):
        return any(phase(w) == "running" for w in self.naive.workloads)

    @precondition(lambda self: self.some_run)
    @rule(
        which=WHICH,
        jobs=st.sets(st.integers(0, 3), min_size=1),
        failed=st.booleans(),
        settle=st.booleans(),
    )
    def jobs_end(self, which, jobs, failed, settle):
        w = self.of("running", which)
        ended = tuple(i for i, job in enumerate(w["jobs"]) if runs(job) and i in jobs)
        if ended:
            self.end(w, ended, Result.FAILED if failed else Result.PASSED, settle)

    @precondition(lambda self: any(w["stop"] for w in self.naive.workloads))
    @rule(which=WHICH, settle=st.booleans())
    def stopped_jobs_have_ended(self, which, settle):
        found = [w for w in self.naive.workloads if phase(w) == "running" and w["stop"]]
        if found:
            w = found[which % len(found)]
            ended = tuple(i for i, job in enumerate(w["jobs"]) if runs(job))
            self.end(w, ended, Result.STOPPED, settle)

    @precondition(lambda self: self.by_name and self.some_run)
    @rule(which=WHICH, jobs=st.sets(st.integers(0, 3), min_size=1), settle=st.booleans())
    def jobs_are_lost(self, which, jobs, settle):
        """They ended where they ran, and each is to get another attempt."""
        w = self.of("running", which)
        known = {id(job) for _, job in self.naive.lost}
        lost = tuple(
            i for i, job in enumerate(w["jobs"]) if runs(job) and i in jobs and id(job) not in known
        )
        if lost and w["stop"] is None:
            decisions = self.core.apply(JobsLost(w["id"], lost, ended=True), self.now)
            self.naive.lost += [(w, w["jobs"][i]) for i in lost]
            self.after(decisions, settle)

    def end(self, w, jobs, result, settle):
        event = JobsEnded(w["id"], jobs, result)
        decisions = self.core.apply(event, self.now)
        fail_fast = self.naive.end(w, [w["jobs"][i] for i in jobs], str(result), self.now)
        asked = [d for d in decisions if isinstance(d, StopJobs)]
        assert bool(asked) == fail_fast
        for stop in asked:
            assert stop.jobs == tuple(i for i, job in enumerate(w["jobs"]) if runs(job))
        assert not self.core.apply(event, self.now), "reported twice: nothing happens"
        self.after(decisions, settle)

    @precondition(lambda self: self.naive.workloads)
    @rule(which=WHICH, settle=st.booleans())
    def one_is_to_stop(self, which, settle):
        w = self.naive.workloads[-1 - which % len(self.naive.workloads)]
        already = w["stop"] == "stopped"
        decisions = self.core.apply(Stop(w["id"]), self.now)
        running = self.naive.stop(w, self.now)
        asked = [d for d in decisions if isinstance(d, StopJobs)]
        assert bool(asked) == (running and not already)
        self.after(decisions, settle)

    @rule(project=st.integers(1, 2), limit=st.none() | st.integers(1, 5), settle=st.booleans())
    def a_project_is_limited(self, project, limit, settle):
        self.naive.limits[project] = limit
        self.after(self.core.apply(ProjectLimited(project, limit), self.now), settle)

    @precondition(lambda self: self.by_name)
    @rule(box_type=st.sampled_from(TYPES), settle=st.booleans())
    def box_comes(self, box_type, settle):
        self.last_box += 1
        self.naive.add(self.last_box, box_type, self.now)
        self.after(self.core.apply(BoxAdded(self.last_box, box_type), self.now), settle)

    @precondition(lambda self: self.by_name and self.naive.boxes)
    @rule(which=WHICH, settle=st.booleans())
    def box_retires(self, which, settle):
        box = list(self.naive.boxes)[which % len(self.naive.boxes)]
        self.naive.retire(box)
        self.after(self.core.apply(BoxRetired(box), self.now), settle)

    @precondition(lambda self: not self.by_name)
    @rule(box_type=st.sampled_from(TYPES), count=st.integers(0, 5), settle=st.booleans())
    def so_many_are_wanted(self, box_type, count, settle):
        self.naive.wanted[box_type] = count
        self.after(self.core.apply(BoxesWanted(box_type, count), self.now), settle)

    @rule(seconds=st.sampled_from((1, 1, 3)))
    def time_passes(self, seconds):
        if not self.settled:
            self.settle()
        self.now += seconds

    # --- Comparison -------------------------------------------------------------------------

    def after(self, decisions, settle):
        self.take_in(decisions)
        self.settled = False
        if settle:
            self.settle()

    def settle(self):
        decisions = self.core.settle(self.now)
        self.naive.chosen = {d.workload: d.boxes for d in decisions if isinstance(d, Admitted)}
        if self.by_name:
            self.naive.again = {
                (d.workload, d.job): d.box for d in decisions if isinstance(d, GivenAgain)
            }
        self.naive.settle(self.now)
        self.take_in(decisions)
        self.settled = True
        assert not self.core.settle(self.now), "settled means that nothing changes any more"

    def take_in(self, decisions):
        for d in decisions:
            match d:
                case Queued():
                    self.seen[d.workload]["queued_at"] = self.now
                case Admitted():
                    self.seen[d.workload]["started_at"] = self.now
                    self.held[d.workload] = list(d.boxes)
                case GivenAgain():
                    self.held[d.workload][d.job] = d.box
                case Finished():
                    self.seen[d.workload] |= {"finished_at": self.now, "result": d.result}
                case Canceled():
                    self.seen[d.workload] |= {"finished_at": self.now, "result": "canceled"}
                case PlanFailed():
                    self.seen[d.workload] |= {"finished_at": self.now, "result": "failed"}
                case Refused():
                    self.seen[d.workload] |= {"finished_at": self.now, "result": "refused"}

    @invariant()
    def the_core_agrees_with_itself(self):
        self.core.check()

    @invariant()
    def both_see_the_same(self):
        for w in self.naive.workloads:
            assert self.seen[w["id"]] == {name: w[name] for name in TIMES}
        unfinished = {w["id"] for w in self.naive.workloads if phase(w) != "finished"}
        assert set(self.core.workloads) == unfinished

    @invariant()
    def boxes_are_given_once_and_whole(self):
        """I1 and I2 for Boxes: each has one job, of the type it asks for."""
        busy = []
        for w in self.naive.workloads:
            if phase(w) == "running":
                boxes = self.held[w["id"]]
                assert len(boxes) == len(w["jobs"])
                busy += [box for box, job in zip(boxes, w["jobs"], strict=True) if runs(job)]
        assert len(busy) == len(set(busy)) == self.naive.busy()
        if self.naive.plan is not None:
            assert len(busy) <= self.naive.plan

    @invariant()
    def lanes_are_served_one_by_one(self):
        """I3."""
        lanes = {}
        for w in self.naive.workloads:
            if w["lane"] is not None and phase(w) != "finished":
                lanes.setdefault(w["lane"], []).append(w)
        for lane in lanes.values():
            assert all(phase(w) == "registered" for w in lane[1:])

    @invariant()
    def every_reason_is_true(self):
        """I8."""
        if not self.settled:
            return
        for w in self.naive.workloads:
            reason = why(self.core, w["id"], self.now)
            if phase(w) == "finished":
                assert reason is None
            else:
                assert reason_is_true(reason, self.naive, w, self.now), (w["id"], reason)


def naive_jobs(asks):
    return [
        {
            "box_type": j.box_type, "expected": j.expected, "limit": j.limit,
            "started_at": None, "ended_at": None, "outcome": None,
        }
        for j in asks
    ]  # fmt: skip


class CountedBoxesMachine(CoreMachine):
    by_name = False


TestBoxesByName = CoreMachine.TestCase
TestBoxesByName.settings = settings(max_examples=60, stateful_step_count=40)
TestBoxesByCount = CountedBoxesMachine.TestCase
TestBoxesByCount.settings = settings(max_examples=60, stateful_step_count=40)
