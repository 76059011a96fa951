"""The rules of docs/scheduling.md, written as plainly as possible and without regard for speed.

Nothing is stored that can be counted again: every question walks all workloads. It shares no line
with ``boxsched.scheduling``, so agreement means that both follow that page. A workload is a dict;
so is a job.
"""

from collections import Counter
from fnmatch import fnmatchcase


class Reference:
    """One organization's queue. Callers report what happens and when; ``settle`` applies the
    consequences."""

    def __init__(self, wanted, policy="backfill", plan=None, aging=None):
        self.wanted = dict(wanted)  # Box type -> how many are wanted now
        self.policy, self.plan, self.aging = policy, plan, aging
        self.limits = {}  # project -> max_boxes
        self.pauses = {}  # name -> (project, branch pattern, server, automatic)
        self.superseded = Counter()  # lane -> builds since one of it last ended by itself
        self.workloads = []  # in the order of registration, finished ones too
        # of the last pass: the first that did not fit, and its reservation
        self.head = self.left = None

    # --- Queries ----------------------------------------------------------------------------

    def find(self, name):
        return next(w for w in self.workloads if w["id"] == name)

    def busy(self, box_type=None, project=None, after=None, now=None):
        """Boxes in use; with ``after``: those whose job is assumed to run on after that time."""
        return sum(
            1
            for w in self.workloads
            for job in w["jobs"] or ()
            if runs(job)
            and (box_type is None or job["box_type"] == box_type)
            and (project is None or w["project"] == project)
            and (after is None or taken_to_end(job, now) > after)
        )

    def free(self, box_type):
        return max(0, self.wanted[box_type] - self.busy(box_type))

    def free_at(self, box_type, at, now):
        """Boxes of a type that are assumed to be free at a later time; negative if more are
        busy."""
        return self.wanted[box_type] - self.busy(box_type, after=at, now=now)

    def over_limit(self, w):
        limit = self.limits.get(w["project"])
        return limit is not None and self.busy(project=w["project"]) + len(w["jobs"]) > limit

    def fits(self, w):
        """Whether free Boxes cover all its jobs at once within the plan."""
        if self.plan is not None and self.busy() + len(w["jobs"]) > self.plan:
            return False
        return all(self.free(t) >= n for t, n in asks(w).items())

    def too_large(self, w):
        """Whether it asks for more Boxes of a type than are wanted now."""
        return any(n > self.wanted[t] for t, n in asks(w).items())

    def order(self, w):
        """Its sort key in the queue: smallest first."""
        if self.aging is None:
            return (-w["priority"], w["registered_at"], self.workloads.index(w))
        return (w["registered_at"] - w["priority"] * self.aging, self.workloads.index(w))

    def queue(self):
        return sorted((w for w in self.workloads if phase(w) == "queued"), key=self.order)

    def ahead(self, w):
        """The unfinished workloads registered before it in its lane."""
        earlier = self.workloads[: self.workloads.index(w)]
        return [e for e in earlier if e["lane"] == w["lane"] and phase(e) != "finished"]

    # --- Events -----------------------------------------------------------------------------

    def submit(self, w, now):
        """Register it; return the workloads whose running jobs must be stopped for it."""
        w |= {"registered_at": now, "queued_at": None, "started_at": None}
        w |= {"finished_at": None, "result": None, "stop": None, "promise": None}
        w |= {"spared": False}
        self.workloads.append(w)
        if self.never_allowed(w):
            finish(w, "refused", now)
            return []
        if w["kind"] == "deploy" and w["automatic"] and w["newest"]:
            for earlier in self.ahead(w):
                if earlier["automatic"] and earlier["started_at"] is None:
                    finish(earlier, "canceled", now)
        if w["kind"] != "build" or w["branch"] is None or w["strategy"] == "none":
            return []
        return [e for e in self.ahead(w) if self.supersede(e, w, now)]

    def never_allowed(self, w):
        """Whether it asks for more than the plan or its project ever allows."""
        limits = [self.plan, self.limits.get(w["project"])]
        return any(most is not None and len(w["jobs"] or ()) > most for most in limits)

    def supersede(self, earlier, newer, now):
        """Cancel, stop or spare it; return whether it has running jobs that must be ended."""
        if earlier["spared"]:
            return False
        ran = earlier["started_at"] is not None
        if ran and (newer["strategy"] != "all" or earlier["stop"] == "stopped"):
            return False
        lane, spare_after = newer["lane"], newer["spare_after"]
        enough = spare_after is not None and self.superseded[lane] >= spare_after
        if enough and not any(e["spared"] for e in self.ahead(newer)):
            earlier["spared"] = True
            return False
        self.superseded[lane] += 1
        return self.stop(earlier, now)

    def give_plan(self, w, jobs, now):
        """Give it its jobs if it waits for them; ``None``: they could not be read."""
        if w["jobs"] is not None or phase(w) == "finished":
            return
        w["jobs"] = jobs
        if jobs is None or self.never_allowed(w):
            self.superseded[w["lane"]] = 0
            finish(w, "failed", now)

    def reprioritize(self, w, priority):
        if w["started_at"] is None and phase(w) != "finished":
            w["priority"] = priority

    def paused(self, w):
        return any(covers(pause, w) for pause in self.pauses.values())

    def stop(self, w, now):
        """Cancel it or mark it as stopped; return whether it has running jobs that must be
        ended."""
        if phase(w) == "finished":
            return False
        if w["started_at"] is None:
            finish(w, "canceled", now)
            return False
        w["stop"] = "stopped"
        return True

    def end(self, w, jobs, outcome, now):
        """These of its jobs have ended; return whether fail-fast ends the others too."""
        for job in jobs:
            job["ended_at"], job["outcome"] = now, outcome
        if all(job["ended_at"] is not None for job in w["jobs"]):
            failed = any(job["outcome"] == "failed" for job in w["jobs"])
            if w["stop"] != "stopped":
                self.superseded[w["lane"]] = 0
            finish(w, w["stop"] or ("failed" if failed else "passed"), now)
            return False
        if outcome == "failed" and w["fail_fast"] and w["stop"] is None:
            w["stop"] = "failed"
            return True
        return False

    # --- Consequences -----------------------------------------------------------------------

    def settle(self, now):
        while self.round(now):
            pass

    def round(self, now):
        """Move every workload that may leave phase 1, then make one pass; return whether anything
        changed."""
        changed = False
        for w in self.workloads:
            if phase(w) != "registered" or w["jobs"] is None:
                continue
            if w["lane"] is None or not self.ahead(w):
                w["queued_at"] = now
                changed = True
        for w in self.admissible(now):
            self.start(w, now)
            changed = True
        return changed

    def start(self, w, now):
        w["started_at"] = now
        for job in w["jobs"]:
            job["started_at"] = now

    def admissible(self, now):
        """One pass over the queue, in order: return what is admitted."""
        self.head = self.left = None
        held = []  # projects whose first waiting workload waits for their limit
        for w in self.queue():
            if self.paused(w) or self.too_large(w) or w["project"] in held:
                continue
            if self.over_limit(w):
                if self.policy in ("strict", "backfill") and not self.never_allowed(w):
                    held.append(w["project"])
                continue
            if not self.fits(w):
                if self.head is None:
                    self.head = w
                    if self.policy == "strict":
                        return
                    if self.policy == "backfill":
                        self.left = self.left_by(w, now)
                continue
            if self.left is not None and not take(self.left, self.head, w, now):
                continue
            yield w

    def left_by(self, head, now):
        """The head's reservation: T, and how much of each resource it leaves free at T."""
        jobs = [job for w in self.workloads for job in w["jobs"] or ()]
        ends = [taken_to_end(job, now) for job in jobs if runs(job)]
        for at in sorted({now, *ends}):
            boxes = {t: self.free_at(t, at, now) for t in self.wanted}
            plan = None if self.plan is None else self.plan - self.busy(after=at, now=now)
            enough = all(boxes[t] >= n for t, n in asks(head).items())
            if enough and (plan is None or plan >= len(head["jobs"])):
                break
        else:
            raise AssertionError("a head fits once everything has ended")
        if head["promise"] is None:
            head["promise"] = at
        limit, project = self.limits.get(head["project"]), head["project"]
        if limit is not None:
            limit -= self.busy(project=project, after=at, now=now) + len(head["jobs"])
        return {
            "at": at,
            "guarded": now > head["promise"] + 2 * max(job["limit"] for job in head["jobs"]),
            "boxes": {t: n - asks(head)[t] for t, n in boxes.items()},
            "plan": None if plan is None else plan - len(head["jobs"]),
            "project": limit,
        }


def take(left, head, w, now):
    """Take a later workload out of what the head leaves at T; return False if it does not fit."""
    takes = "limit" if left["guarded"] else "expected"
    late = [job for job in w["jobs"] if now + job[takes] > left["at"]]
    types = Counter(job["box_type"] for job in late)
    if any(n > left["boxes"][t] for t, n in types.items()):
        return False
    same_project = w["project"] == head["project"]
    if late and left["plan"] is not None and len(late) > left["plan"]:
        return False
    if late and same_project and left["project"] is not None and len(late) > left["project"]:
        return False
    for t, n in types.items():
        left["boxes"][t] -= n
    if left["plan"] is not None:
        left["plan"] -= len(late)
    if same_project and left["project"] is not None:
        left["project"] -= len(late)
    return True


def covers(pause, w):
    project, branch, server, automatic = pause
    if project is not None and w["project"] != project:
        return False
    if branch is not None and not (
        w["kind"] == "build" and w["branch"] is not None and fnmatchcase(w["branch"], branch)
    ):
        return False
    if server is not None and not (w["kind"] == "deploy" and w["server"] == server):
        return False
    return not automatic or w["automatic"]


def phase(w):
    if w["finished_at"] is not None:
        return "finished"
    if w["started_at"] is not None:
        return "running"
    return "registered" if w["queued_at"] is None else "queued"


def asks(w):
    return Counter(job["box_type"] for job in w["jobs"])


def runs(job):
    return job["started_at"] is not None and job["ended_at"] is None


def taken_to_end(job, now):
    expected = job["started_at"] + job["expected"]
    return expected if now <= expected else max(job["started_at"] + job["limit"], now)


def finish(w, result, now):
    w["finished_at"], w["result"] = now, result
