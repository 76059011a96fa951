"""Functions that make scenarios for tests and run them."""

import json

from boxsched.simulation import parse, run


def build(name, at=0, jobs=(10,), **more):
    place = {} if "branch" in more or "tag" in more else {"branch": name}
    return (
        {"at": at, "submit": "build", "id": name, "project": "p", "jobs": list(jobs)} | place | more
    )


def deploy(name, at=0, jobs=(10,), server="production", **more):
    return {"at": at, "submit": "deploy", "id": name, "project": "p", "server": server} | {
        "jobs": list(jobs), **more,
    }  # fmt: skip


def ssh(name, at=0, jobs=(10,), **more):
    return {"at": at, "submit": "ssh", "id": name, "project": "p", "jobs": list(jobs)} | more


def stop(name, at):
    return {"at": at, "stop": name}


def boxes(count, at):
    return {"at": at, "boxes": count}


def wide_build(name, size, seconds, at=0, **more):
    return build(name, at, [seconds] * size, **more)


def settings(**given):
    """Return the settings of project p."""
    return [{"name": "p", **given}]


def scenario_bytes(count, *events, **more):
    """Return the scenario as bytes."""
    return json.dumps({"boxes": count, "events": events, **more}).encode()


def outcome_of(count, *events, **more):
    """Run the scenario; return its outcome."""
    return run(parse(scenario_bytes(count, *events, **more)))


def results_by_name(outcome):
    """Return {name: (queued, started, finished, result)}."""
    return {
        name: (r.queued_at, r.started_at, r.finished_at, r.result)
        for name, r in outcome.workloads.items()
    }


def starts(outcome):
    return {name: r.started_at for name, r in outcome.workloads.items()}


def ends(outcome):
    return {name: r.finished_at for name, r in outcome.workloads.items()}
