"""The contract's sections 1 and 2 once more, as slowly and plainly as they can be written.

Scenario (a dict, as JSON gives it) in, the contract's output (a dict) out. Nothing is kept that can
be counted anew: every question walks all workloads. It shares no line with ``boxsched.scheduling``,
so that where both agree, they agree by the contract's words. A workload is a dict; so is a job.
"""

from collections import Counter
from fnmatch import fnmatchcase


class Reference:
    """One organization's queue. Callers say what happens and when; ``settle`` draws the results."""

    def __init__(self, wanted, policy="backfill", plan=None, aging=None):
        self.wanted = dict(wanted)  # Box type -> how many are wanted now
        self.policy, self.plan, self.aging = policy, plan, aging
        self.limits = {}  # project -> max_boxes
        self.workloads = []  # in the order of registration, finished ones too
        self.head = self.left = None  # of the last pass: who did not fit first, its reservation

    # --- What can be seen ---------------------------------------------------------------------

    def find(self, name):
        return next(w for w in self.workloads if w["id"] == name)

    def busy(self, box_type=None, project=None, after=None, now=None):
        """Boxes in use; with ``after``: those whose job is taken to run on after that time."""
        return sum(
            1
            for w in self.workloads
            for job in w["jobs"]
            if runs(job)
            and (box_type is None or job["box_type"] == box_type)
            and (project is None or w["project"] == project)
            and (after is None or taken_to_end(job, now) > after)
        )

    def free(self, box_type):
        return max(0, self.wanted[box_type] - self.busy(box_type))

    def free_at(self, box_type, at, now):
        """Boxes of a type that are taken to be free at a later time; below zero: more busy."""
        return self.wanted[box_type] - self.busy(box_type, after=at, now=now)

    def over_limit(self, w):
        limit = self.limits.get(w["project"])
        return limit is not None and self.busy(project=w["project"]) + len(w["jobs"]) > limit

    def fits(self, w):
        """Free Boxes cover all its jobs at once, and the plan would not be exceeded."""
        if self.plan is not None and self.busy() + len(w["jobs"]) > self.plan:
            return False
        return all(self.free(t) >= n for t, n in asks(w).items())

    def too_large(self, w):
        """It asks for more Boxes of a type than are wanted now."""
        return any(n > self.wanted[t] for t, n in asks(w).items())

    def order(self, w):
        """Where it stands in the queue: least first."""
        if self.aging is None:
            return (-w["priority"], w["registered_at"], self.workloads.index(w))
        return (w["registered_at"] - w["priority"] * self.aging, self.workloads.index(w))

    def queue(self):
        return sorted((w for w in self.workloads if phase(w) == "queued"), key=self.order)

    def ahead(self, w):
        """The unfinished workloads registered before it in its lane."""
        earlier = self.workloads[: self.workloads.index(w)]
        return [e for e in earlier if e["lane"] == w["lane"] and phase(e) != "finished"]

    # --- What happens -------------------------------------------------------------------------

    def submit(self, w, now):
        """Registers it; returns the workloads whose running jobs are to be stopped for it."""
        w |= {"registered_at": now, "queued_at": None, "started_at": None}
        w |= {"finished_at": None, "result": None, "stop": None}
        self.workloads.append(w)
        for most in (self.plan, self.limits.get(w["project"])):
            if most is not None and len(w["jobs"]) > most:
                finish(w, "refused", now)
                return []
        if w["kind"] != "build" or w["branch"] is None or w["strategy"] == "none":
            return []
        return [e for e in self.ahead(w) if self.supersede(e, w["strategy"], now)]

    def supersede(self, earlier, strategy, now):
        if earlier["started_at"] is not None and strategy != "all":
            return False
        return self.stop(earlier, now)

    def stop(self, w, now):
        """Cancels it, or marks it stopped; true if it has running jobs, which are to be ended."""
        if phase(w) == "finished":
            return False
        if w["started_at"] is None:
            finish(w, "canceled", now)
            return False
        w["stop"] = "stopped"
        return True

    def end(self, w, jobs, outcome, now):
        """These jobs of it have ended; true if fail-fast wants the others ended too."""
        for job in jobs:
            job["ended_at"], job["outcome"] = now, outcome
        if all(job["ended_at"] is not None for job in w["jobs"]):
            failed = any(job["outcome"] == "failed" for job in w["jobs"])
            finish(w, w["stop"] or ("failed" if failed else "passed"), now)
            return False
        if outcome == "failed" and w["fail_fast"] and w["stop"] is None:
            w["stop"] = "failed"
            return True
        return False

    # --- What follows -------------------------------------------------------------------------

    def settle(self, now):
        while self.round(now):
            pass

    def round(self, now):
        """First out of phase 1 whatever may leave it, then one pass; true if anything changed."""
        changed = False
        for w in self.workloads:
            if phase(w) == "registered" and (w["lane"] is None or not self.ahead(w)):
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
        """One pass over the queue, in its order: what is admitted, one by one."""
        self.head = self.left = None
        held = []  # projects whose first waiting workload waits for their limit
        for w in self.queue():
            if self.too_large(w) or w["project"] in held:
                continue
            if self.over_limit(w):
                if self.policy in ("strict", "backfill"):
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
        """The head's reservation: T, and what it leaves free at T of all that can run out."""
        ends = [taken_to_end(job, now) for w in self.workloads for job in w["jobs"] if runs(job)]
        for at in sorted({now, *ends}):
            boxes = {t: self.free_at(t, at, now) for t in self.wanted}
            plan = None if self.plan is None else self.plan - self.busy(after=at, now=now)
            enough = all(boxes[t] >= n for t, n in asks(head).items())
            if enough and (plan is None or plan >= len(head["jobs"])):
                break
        else:
            raise AssertionError("a head fits once everything has ended")
        limit, project = self.limits.get(head["project"]), head["project"]
        if limit is not None:
            limit -= self.busy(project=project, after=at, now=now) + len(head["jobs"])
        return {
            "at": at,
            "boxes": {t: n - asks(head)[t] for t, n in boxes.items()},
            "plan": None if plan is None else plan - len(head["jobs"]),
            "project": limit,
        }


def take(left, head, w, now):
    """Takes a later workload out of what the head leaves at T; false if it does not fit there."""
    late = [job for job in w["jobs"] if now + job["expected"] > left["at"]]
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
    return max(job["started_at"] + job["expected"], now)


def finish(w, result, now):
    w["finished_at"], w["result"] = now, result


def matches_any(name, patterns):
    return name is not None and any(fnmatchcase(name, p) for p in patterns)


# --- Scenarios ----------------------------------------------------------------------------------


def simulate(scenario):
    """The contract's section 2: runs the scenario in virtual time."""
    boxes = scenario["boxes"] if isinstance(scenario["boxes"], dict) else {None: scenario["boxes"]}
    projects = {p["name"]: p for p in scenario.get("projects", [])}
    reference = Reference(
        boxes,
        scenario.get("policy", "backfill"),
        scenario.get("max_boxes"),
        scenario.get("priority_aging"),
    )
    reference.limits = {name: p.get("max_boxes") for name, p in projects.items()}
    events = list(scenario["events"])
    history = []  # (time, busy Boxes, Boxes in being) after each instant
    while True:
        times = [e["at"] for e in events[:1]] + [
            job["started_at"] + job["seconds"]
            for w in reference.workloads
            for job in w["jobs"]
            if runs(job)
        ]
        if not times:
            break
        now = min(times)
        end_due(reference, now)
        while events and events[0]["at"] == now:
            happen(reference, events.pop(0), projects, now)
        reference.settle(now)
        being = sum(max(n, reference.busy(t)) for t, n in reference.wanted.items())
        history.append((now, reference.busy(), being))
    return output(scenario, reference.workloads, history)


def end_due(reference, now):
    """All jobs that end now; the instant comes round again until none is left that does."""
    for w in reference.workloads:
        due = [j for j in w["jobs"] if runs(j) and j["started_at"] + j["seconds"] <= now]
        stop_others = False
        for job in due:
            stop_others = reference.end(w, [job], job["result"], now) or stop_others
        if stop_others:
            end_running(reference, w, now)


def end_running(reference, w, now):
    """A stop is at the same instant, in the simulator."""
    running = [job for job in w["jobs"] if runs(job)]
    if running:
        reference.end(w, running, "stopped", now)


def happen(reference, event, projects, now):
    if "submit" in event:
        w = workload(event, projects.get(event["project"], {}), next(iter(reference.wanted)))
        for stopped in reference.submit(w, now):
            end_running(reference, stopped, now)
    elif "stop" in event:
        w = reference.find(event["stop"])
        if reference.stop(w, now):
            end_running(reference, w, now)
    elif isinstance(event["boxes"], dict):
        reference.wanted |= event["boxes"]
    else:
        reference.wanted[next(iter(reference.wanted))] = event["boxes"]


def workload(event, project, first_type):
    """A submission as the reference keeps it, its defaults filled in."""
    kind, branch = event["submit"], event.get("branch")
    lane, priority, strategy = None, 80, "none"
    if kind == "deploy":
        lane = (event["project"], "server", event["server"])
    if kind == "build":
        lane = (event["project"], *(("branch", branch) if branch else ("tag", event["tag"])))
        priority = 70 if matches_any(branch, project.get("priority_branches", [])) else 50
        rules = project.get("cancellation", [])
        strategy = next((s for p, s in rules if matches_any(branch, [p])), "none")
    return {
        "id": event["id"], "kind": kind, "project": event["project"], "branch": branch,
        "lane": lane, "priority": event.get("priority", priority), "strategy": strategy,
        "fail_fast": project.get("fail_fast", False),
        "jobs": [job_of(job, first_type) for job in event["jobs"]],
    }  # fmt: skip


def job_of(job, first_type):
    if not isinstance(job, dict):
        job = {"seconds": job}
    return {
        "seconds": job["seconds"],
        "expected": job.get("expected", job["seconds"]),
        "result": job.get("result", "passed"),
        "box_type": job.get("box_type", first_type),
        "started_at": None, "ended_at": None, "outcome": None,
    }  # fmt: skip


FIELDS = ("registered_at", "queued_at", "started_at", "finished_at", "result")


def output(scenario, workloads, history):
    ended = [w["finished_at"] for w in workloads if w["finished_at"] is not None]
    first = scenario["events"][0]["at"] if scenario["events"] else 0
    makespan = max(ended) - first if ended else 0
    ran = [w for w in workloads if w["started_at"] is not None and w["finished_at"] is not None]
    waits = [w["started_at"] - w["registered_at"] for w in ran]
    runs_for = [w["finished_at"] - w["started_at"] for w in ran]
    slow = [max(1, (wait + run) / max(run, 10)) for wait, run in zip(waits, runs_for, strict=True)]
    return {
        "workloads": {w["id"]: {field: w[field] for field in FIELDS} for w in workloads},
        "summary": {
            "workloads": len(workloads),
            "jobs": sum(len(w["jobs"]) for w in workloads),
            "makespan": makespan,
            "mean_wait": sum(waits) / len(waits) if waits else 0.0,
            "mean_bounded_slowdown": sum(slow) / len(slow) if slow else 1.0,
            "utilization": utilization(history, first, first + makespan),
        },
    }


def utilization(history, start, end):
    """Busy Box-seconds / Box-seconds in being; 0.0 where there are none."""
    busy_seconds = being_seconds = 0
    for i, (since, busy, being) in enumerate(history):
        until = min(history[i + 1][0] if i + 1 < len(history) else end, end)
        if until > max(since, start):
            busy_seconds += busy * (until - since)
            being_seconds += being * (until - since)
    return busy_seconds / being_seconds if being_seconds else 0.0
