"""docs/simulation.md with the naive queue: from a scenario (a dict, as in JSON) to the output (a
dict)."""

from fnmatch import fnmatchcase

from tests.reference.queueing import Reference, runs


def simulate(scenario):
    """Run the scenario in virtual time."""
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
    history = []  # (time, busy Boxes, existing Boxes) after each instant
    while True:
        times = [e["at"] for e in events[:1]] + [
            job["started_at"] + job["seconds"]
            for w in reference.workloads
            for job in w["jobs"] or ()
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
    """End all jobs that are due now; repeat the instant until none is left."""
    for w in reference.workloads:
        due = [j for j in w["jobs"] or () if runs(j) and j["started_at"] + j["seconds"] <= now]
        stop_others = False
        for job in due:
            stop_others = reference.end(w, [job], job["result"], now) or stop_others
        if stop_others:
            end_running(reference, w, now)


def end_running(reference, w, now):
    """In the simulator a stopped job ends at the same instant."""
    running = [job for job in w["jobs"] if runs(job)]
    if running:
        reference.end(w, running, "stopped", now)


def happen(reference, event, projects, now):
    if "submit" in event:
        w = workload(event, projects.get(event["project"], {}), next(iter(reference.wanted)))
        for stopped in reference.submit(w, now):
            end_running(reference, stopped, now)
    elif "plan" in event:
        jobs, first_type = event["jobs"], next(iter(reference.wanted))
        read = None if jobs is None else [job_of(job, first_type) for job in jobs]
        reference.give_plan(reference.find(event["plan"]), read, now)
    elif "pause" in event:
        fields = ("project", "branch", "server", "automatic")
        reference.pauses[event["pause"]] = tuple(event.get(field) for field in fields)
    elif "resume" in event:
        reference.pauses.pop(event["resume"], None)
    elif "reprioritize" in event:
        reference.reprioritize(reference.find(event["reprioritize"]), event["priority"])
    elif "stop" in event:
        w = reference.find(event["stop"])
        if reference.stop(w, now):
            end_running(reference, w, now)
    elif isinstance(event["boxes"], dict):
        reference.wanted |= event["boxes"]
    else:
        reference.wanted[next(iter(reference.wanted))] = event["boxes"]


def workload(event, project, first_type):
    """Return a submission as the reference keeps it, with its defaults."""
    kind, branch, jobs = event["submit"], event.get("branch"), event["jobs"]
    lane, priority, strategy, spare_after = None, 80, "none", None
    if kind == "deploy":
        lane = (event["project"], "server", event["server"])
    if kind == "build":
        lane = (event["project"], *(("branch", branch) if branch else ("tag", event["tag"])))
        priority = 70 if matches_any(branch, project.get("priority_branches", [])) else 50
        rules = project.get("cancellation", [])
        _, strategy, *more = next((r for r in rules if matches_any(branch, [r[0]])), NO_RULE)
        spare_after = more[0]["spare_after"] if more else None
    queue = project.get("servers", {}).get(event.get("server"), {}).get("queue")
    return {
        "id": event["id"], "kind": kind, "project": event["project"], "branch": branch,
        "lane": lane, "priority": event.get("priority", priority), "strategy": strategy,
        "spare_after": spare_after, "fail_fast": project.get("fail_fast", False),
        "server": event.get("server"), "automatic": event.get("automatic", False),
        "newest": queue == "newest",
        "jobs": jobs and [job_of(job, first_type) for job in jobs],
    }  # fmt: skip


def job_of(job, first_type):
    if not isinstance(job, dict):
        job = {"seconds": job}
    return {
        "seconds": job["seconds"],
        "expected": job.get("expected", job["seconds"]),
        "limit": job.get("limit", job.get("expected", job["seconds"])),
        "result": job.get("result", "passed"),
        "box_type": job.get("box_type", first_type),
        "started_at": None, "ended_at": None, "outcome": None,
    }  # fmt: skip


NO_RULE = ("*", "none")
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
            "jobs": sum(len(w["jobs"] or ()) for w in workloads),
            "makespan": makespan,
            "mean_wait": sum(waits) / len(waits) if waits else 0.0,
            "mean_bounded_slowdown": sum(slow) / len(slow) if slow else 1.0,
            "utilization": utilization(history, first, first + makespan),
        },
    }


def utilization(history, start, end):
    """Busy Box-seconds / existing Box-seconds; 0.0 if there are none."""
    busy_seconds = being_seconds = 0
    for i, (since, busy, being) in enumerate(history):
        until = min(history[i + 1][0] if i + 1 < len(history) else end, end)
        if until > max(since, start):
            busy_seconds += busy * (until - since)
            being_seconds += being * (until - since)
    return busy_seconds / being_seconds if being_seconds else 0.0


def matches_any(name, patterns):
    return name is not None and any(fnmatchcase(name, p) for p in patterns)
