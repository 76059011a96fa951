"""Random scenarios for the simulator: small, crowded, and full of things that coincide.

One description, two sources of chance: ``random_scenario(seed)`` for long runs, and ``scenarios()``
for Hypothesis, which shrinks. Smallest and plainest choices come first, as shrinking likes it.
"""

import copy
import random

from hypothesis import strategies as st

BRANCHES = ("main", "dev", "fix/a", "fix/b")
PATTERNS = ("main", "*", "fix/*", "dev")
SERVERS = ("production", "staging")
TYPES = ("linux", "mac", "arm")


class Seeded:
    """Chance from a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def integer(self, low, high):
        return self.random.randint(low, high)

    def choice(self, options):
        return options[self.random.randrange(len(options))]


class Drawn:
    """Chance from Hypothesis."""

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
    return crowd(pick) if often(pick, 30) else mixture(pick)


def crowd(pick):
    """One long queue in one instant, without lanes, and few sorts of workloads: for the passes."""
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


def mixture(pick):
    """A bit of everything, over a while."""
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
    # A unit of 0.1 makes times that doubles cannot hold, so that sums differ in their last bit.
    unit = pick.choice((1, 1, 1, 0.1))
    named = types if isinstance(made["boxes"], dict) else ()
    # Asking the same as others is what makes workloads interchangeable for the core.
    alike = [jobs(pick, named, unit) for _ in range(pick.choice((0, 2, 4)))]
    names = [f"w{n}" for n in range(1, pick.integer(1, 22) + 1)]
    at = pick.choice((0, 0, 5))
    for i, name in enumerate(names):
        asked = pick.choice(alike) if alike and often(pick, 75) else jobs(pick, named, unit)
        made["events"].append(submission(pick, name, at, copy.deepcopy(asked)))
        while often(pick, 15):
            at += step(pick, unit)
            made["events"].append(interruption(pick, at, names[: i + 1], named))
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
    return {
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
        # A tag may have a branch's name; they are two lanes all the same.
        where = pick.choice(("branch",) * 6 + ("tag",))
        made[where] = pick.choice(BRANCHES)
    elif kind == "deploy":
        made["server"] = pick.choice(SERVERS)
    made["jobs"] = asked
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


def interruption(pick, at, names, types):
    if often(pick, 35):
        if not types or often(pick, 50):
            return {"at": at, "boxes": pick.integer(0, 6)}
        return {"at": at, "boxes": {pick.choice(types): pick.integer(0, 6)}}
    # Mostly one of the latest, since those are the ones that are still unfinished.
    latest = names[-3:] if often(pick, 75) else names
    return {"at": at, "stop": pick.choice(tuple(latest))}
