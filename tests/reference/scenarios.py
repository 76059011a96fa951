"""Random scenarios for the simulator: small, crowded, with many coincidences.

One description, two sources of randomness: ``random_scenario(seed)`` for long runs, and
``scenarios()`` for Hypothesis, which shrinks. The smallest and simplest choices come first, which
helps shrinking.
"""

import copy
import random

from hypothesis import strategies as st

BRANCHES = ("main", "dev", "fix/a", "fix/b")
PATTERNS = ("main", "*", "fix/*", "dev")
SERVERS = ("production", "staging")
TYPES = ("linux", "mac", "arm")


class Seeded:
    """Random choices from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def integer(self, low, high):
        return self.random.randint(low, high)

    def choice(self, options):
        return options[self.random.randrange(len(options))]


class Drawn:
    """Random choices from Hypothesis."""

    def __init__(self, draw):
        self.draw = draw

    def integer(self, low, high):
        return self.draw(st.integers(low, high))

    def choice(self, options):
        return self.draw(st.sampled_from(options))


def random_scenario(seed):
    return scenario(Seeded(seed))


@st.composite
def scenarios(draw):
    return scenario(Drawn(draw))


def often(pick, percent):
    return pick.integer(0, 99) >= 100 - percent


def maybe(pick, percent, value):
    return value() if often(pick, percent) else None


def scenario(pick):
    if often(pick, 30):
        return crowd(pick)
    return busy_lanes(pick) if often(pick, 25) else mixture(pick)


def crowd(pick):
    """A long queue at one moment, without lanes and with few kinds of workloads."""
    sorts = [
        [{"seconds": seconds, "expected": pick.choice((1, seconds, seconds, 5)), "limit": 99}]
        * pick.integer(1, 4)
        for seconds in (2, 5, 10, 99)[: pick.integer(1, 4)]
    ]
    events = []
    for n in range(pick.integer(1, 16)):
        kind = pick.choice(("ssh", "build"))
        asked = {"id": f"w{n}", "project": pick.choice(("web", "web", "app"))}
        branch = {"branch": f"b{n}"} if kind == "build" else {}
        jobs = copy.deepcopy(pick.choice(sorts))
        events.append(
            {"at": pick.choice((0, 0, 1)), "submit": kind, **asked, **branch, "jobs": jobs}
        )
    return {
        "boxes": pick.integer(3, 10),
        "policy": pick.choice(("backfill", "backfill", "strict", "best_effort")),
        "priority_aging": maybe(pick, 10, lambda: 1),
        "max_boxes": maybe(pick, 20, lambda: pick.integer(4, 8)),
        "projects": [project(pick, "web"), project(pick, "app")],
        "events": sorted(events, key=lambda event: event["at"]),
    }


def busy_lanes(pick):
    """Submissions to one branch and one server, faster than they run."""
    rules = ("queued", "all", "all")
    web = project(pick, "web") | {
        "cancellation": [["m*", pick.choice(rules), {"spare_after": pick.choice((1, 1, 2, 3))}]],
        "max_boxes": None,
        "servers": {"production": {"queue": pick.choice(("newest", "newest", "all"))}},
    }
    events, at = [], 0
    for n in range(pick.integer(2, 18)):
        at += pick.choice((0, 0, 1, 2, 3))
        made = {"at": at, "submit": "build", "id": f"w{n}", "project": "web", "branch": "main"}
        if often(pick, 30):
            made = {"at": at, "submit": "deploy", "id": f"w{n}", "project": "web"}
            made |= {"server": "production", "automatic": often(pick, 75)}
        plain = [job(pick, (), 1) for _ in range(pick.integer(1, 2))]
        made["jobs"] = None if made["submit"] == "build" and often(pick, 25) else plain
        events.append(made)
        if often(pick, 20):
            at += pick.choice((0, 1))
            events.append({"at": at, "stop": f"w{pick.integer(max(0, n - 3), n)}"})
        while often(pick, 30):
            at += pick.choice((0, 1))
            events.append(later_word(pick, at, events, (), 1))
    return {
        "boxes": pick.integer(1, 4),
        "policy": "backfill",
        "priority_aging": None,
        "max_boxes": maybe(pick, 20, lambda: 1),
        "projects": [web],
        "events": events,
    }


def mixture(pick):
    """A mixture of everything, over some time."""
    types = TYPES[: pick.choice((1, 1, 2, 3))]
    most = pick.choice((4, 4, 8))
    boxes = {t: pick.integer(1, most) for t in types}
    plan = maybe(pick, 30, lambda: pick.integer(1, 6))
    made = {
        "boxes": boxes if len(types) > 1 or often(pick, 20) else boxes[types[0]],
        "policy": pick.choice(("backfill", "backfill", "backfill", "best_effort", "strict")),
        "priority_aging": maybe(pick, 25, lambda: pick.choice((1, 0.5, 0.1, 3, 100))),
        "max_boxes": plan,
        "projects": [project(pick, name) for name in ("web", "app")[: pick.integer(0, 2)]],
        "events": [],
    }
    # A unit of 0.1 makes times that doubles cannot represent, so sums differ in their last bit.
    unit = pick.choice((1, 1, 1, 0.1))
    named = types if isinstance(made["boxes"], dict) else ()
    # Equal requests make workloads interchangeable for the core.
    alike = [jobs(pick, named, unit) for _ in range(pick.choice((0, 2, 4)))]
    names = [f"w{n}" for n in range(1, pick.integer(1, 22) + 1)]
    at = pick.choice((0, 0, 5))
    for i, name in enumerate(names):
        asked = pick.choice(alike) if alike and often(pick, 75) else jobs(pick, named, unit)
        made["events"].append(submission(pick, name, at, copy.deepcopy(asked)))
        while often(pick, 15):
            at += step(pick, unit)
            made["events"].append(interruption(pick, at, names[: i + 1], named))
        while often(pick, 15):
            at += step(pick, unit)
            made["events"].append(later_word(pick, at, made["events"], named, unit))
        at += step(pick, unit)
    if often(pick, 60):
        enough = {t: pick.integer(3, 6) for t in types}
        made["events"].append({"at": at, "boxes": enough if named else enough[types[0]]})
    return made


def step(pick, unit):
    return pick.choice((0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 3, 10)) * unit


def project(pick, name):
    rules = [
        [pick.choice(PATTERNS), pick.choice(("none", "queued", "all"))]
        for _ in range(pick.choice((0, 1, 1, 2)))
    ]
    for rule in rules:
        if often(pick, 50):
            rule.append({"spare_after": pick.choice((1, 1, 2, 3))})
    newest = {"queue": "newest"} if often(pick, 60) else {}
    return {
        "servers": {"production": newest} if often(pick, 50) else {},
        "name": name,
        "priority_branches": list(pick.choice(((), ("main",), ("fix/*",), ("m?in", "DEV")))),
        "max_boxes": maybe(pick, 60, lambda: pick.integer(1, 6)),
        "fail_fast": often(pick, 40),
        "cancellation": rules,
    }


def submission(pick, name, at, asked):
    kind = pick.choice(("build", "build", "build", "build", "deploy", "ssh"))
    made = {"at": at, "submit": kind, "id": name, "project": pick.choice(("web", "web", "app"))}
    if kind == "build":
        # A tag may have a branch's name; they are still two lanes.
        where = pick.choice(("branch",) * 6 + ("tag",))
        made[where] = pick.choice(BRANCHES)
    elif kind == "deploy":
        made["server"] = pick.choice(SERVERS)
        if often(pick, 60):
            made["automatic"] = True
    made["jobs"] = None if kind == "build" and often(pick, 12) else asked
    if often(pick, 25):
        made["priority"] = pick.choice((50, 0, 49, 51, 70, 80, 100))
    return made


def jobs(pick, types, unit):
    most = pick.choice((1, 2, 3, 5))
    return [job(pick, types, unit) for _ in range(pick.integer(1, most))]


def job(pick, types, unit):
    seconds = pick.choice((1, 2, 3, 4, 5, 8, 12, 0)) * unit
    plain = not often(pick, 50)
    if plain and not types and not often(pick, 20):
        return seconds
    made = {"seconds": seconds}
    if not plain:
        made["expected"] = pick.choice((1, 2, 3, 4, 5, 8, 12, 0, 30)) * unit
    if often(pick, 30):
        expected = made.get("expected", seconds)
        made["limit"] = expected + pick.choice((0, 1, 2, 5, 9)) * unit
    if often(pick, 15):
        made["result"] = pick.choice(("failed", "passed"))
    if types and often(pick, 60):
        made["box_type"] = pick.choice(types)
    return made


def in_force(events):
    """Return the names of the pauses that have not ended."""
    names = set()
    for event in events:
        if "pause" in event:
            names.add(event["pause"])
        names.discard(event.get("resume"))
    return tuple(sorted(names))


def later_word(pick, at, events, types, unit):
    """A plan, a pause or its end, or another priority."""
    names = [e["id"] for e in events if "submit" in e]
    paused = in_force(events)
    unplanned = [e["id"] for e in events if "submit" in e and e["jobs"] is None]
    if unplanned and often(pick, 55):
        read = None if often(pick, 15) else jobs(pick, types, unit)
        return {"at": at, "plan": pick.choice(tuple(unplanned)), "jobs": read}
    if often(pick, 10):
        return {"at": at, "plan": pick.choice(tuple(names)), "jobs": jobs(pick, types, unit)}
    if paused and often(pick, 50):
        return {"at": at, "resume": pick.choice(paused)}
    if often(pick, 50):
        latest = tuple(names[-4:])
        priority = pick.choice((50, 0, 70, 80, 100, 51))
        return {"at": at, "reprioritize": pick.choice(latest), "priority": priority}
    made = {"at": at, "pause": pick.choice(("freeze", "night"))}
    if often(pick, 70):
        made["project"] = pick.choice(("web", "web", "app"))
        where = pick.choice(("", "branch", "branch", "server"))
        if where:
            made[where] = pick.choice(PATTERNS if where == "branch" else SERVERS)
    if often(pick, 25):
        made["automatic"] = pick.choice((True, True, False))
    return made


def interruption(pick, at, names, types):
    if often(pick, 35):
        if not types or often(pick, 50):
            return {"at": at, "boxes": pick.integer(0, 6)}
        return {"at": at, "boxes": {pick.choice(types): pick.integer(0, 6)}}
    # Mostly one of the latest, which are still unfinished.
    latest = names[-3:] if often(pick, 75) else names
    return {"at": at, "stop": pick.choice(tuple(latest))}
