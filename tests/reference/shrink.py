"""Makes a scenario on which two runs differ as small as possible, for people to read."""

import copy


def shrunk(scenario, differs):
    """Leave out and simplify one thing at a time while ``differs(scenario)`` stays true."""
    again = True
    while again:
        again = False
        for simpler in list(simplifications(scenario)):
            if is_whole(simpler) and differs(simpler):
                scenario, again = simpler, True
                break
    return scenario


def is_whole(scenario):
    """Whether the times are in order, and events refer only to what existed before."""
    names, pauses = set(), set()
    times = [event["at"] for event in scenario["events"]]
    if times != sorted(times):
        return False
    for event in scenario["events"]:
        for word in ("stop", "plan", "reprioritize"):
            if word in event and event[word] not in names:
                return False
        if "resume" in event and event["resume"] not in pauses:
            return False
        if "pause" in event and "project" not in event and {"branch", "server"} & event.keys():
            return False
        names.add(event.get("id"))
        pauses.add(event.get("pause"))
        pauses.discard(event.get("resume"))
    return True


def simplifications(scenario):
    for i in range(len(scenario["events"])):
        yield changed(scenario, lambda s, i=i: s["events"].pop(i))
    for i in range(len(scenario["projects"])):
        yield changed(scenario, lambda s, i=i: s["projects"].pop(i))
    for key in ("priority_aging", "max_boxes"):
        if scenario[key] is not None:
            yield changed(scenario, lambda s, key=key: s.update({key: None}))
    for i, project in enumerate(scenario["projects"]):
        for key, plain in {
            "max_boxes": None, "fail_fast": False, "cancellation": [], "priority_branches": [],
            "servers": {},
        }.items():  # fmt: skip
            if project.get(key, plain) != plain:
                yield changed(
                    scenario, lambda s, i=i, k=key, p=plain: s["projects"][i].update({k: p})
                )
    for i, event in enumerate(scenario["events"]):
        yield from simpler_events(scenario, i, event)


def simpler_events(scenario, i, event):
    if event["at"] != int(event["at"]):
        yield changed(scenario, lambda s: s["events"][i].update(at=int(event["at"])))
    for key in ("branch", "server", "automatic", "project"):
        if "pause" in event and key in event:
            yield changed(scenario, lambda s, k=key: s["events"][i].pop(k))
    if "priority" in event and "submit" in event:
        yield changed(scenario, lambda s: s["events"][i].pop("priority"))
    jobs = event.get("jobs") or []
    for j, job in enumerate(jobs):
        if len(jobs) > 1:
            yield changed(scenario, lambda s, j=j: s["events"][i]["jobs"].pop(j))
        if isinstance(job, dict):
            for key in set(job) - {"seconds"}:
                yield changed(scenario, lambda s, j=j, k=key: s["events"][i]["jobs"][j].pop(k))
            if set(job) == {"seconds"}:
                seconds = job["seconds"]
                yield changed(scenario, lambda s, j=j, n=seconds: put(s, i, j, n))


def put(scenario, i, j, job):
    scenario["events"][i]["jobs"][j] = job


def changed(scenario, change):
    copied = copy.deepcopy(scenario)
    change(copied)
    return copied
