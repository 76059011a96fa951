"""The replay of a history: what each rule refuses and what it allows, on made-up events."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest

from boxsched.store.blocks import Block, Row
from boxsched.store.operating import replay
from boxsched.store.operating.replay import SQL, Replay

W, OTHER = 1, 2  # two workloads of one job each
JOB, OTHER_JOB = W << 10, OTHER << 10
BATCH = 10  # the last batch of the shards

ORDER = "V3, V4: a workload's event must not follow the previous one"
JOB_ORDER = "V3, V4, V5: a job's event must not follow the previous one"
TAKEN = "I1, V10: a Box that runs another job was assigned"
PLAN = "I1: the plan was exceeded"
LIMIT = "I1: a project's limit was exceeded"
WITHHELD = "V21: a Box of a draining or incompatible worker was assigned"
HELD = "V10, V16: a workload ended that still has a Box"
LANE, LANE_ORDER = (
    "I3, V7: two workloads of one lane have left phase 1", "I3, V8: a lane's order was violated",
)  # fmt: skip
ATTEMPT = "I4, V5: an attempt does not follow the previous one"
REPEATED = "I9: a job of a deploy or session was assigned again"
PARTLY = "I2, V11: a workload was only partly admitted"
LAST = "V3: the last state in the history differs from the table"


def event(
    type_: str, workload: int | None = W, job: int | None = None, /, **more: Any
) -> dict[str, Any]:
    return {"type": type_, "workload": workload, "job": job} | more


def started(workload: int = W, *boxes: str, **more: Any) -> dict[str, Any]:
    data = {"boxes_taken": boxes or ("1",)}
    return event("workload.started", workload, **{"data": data, "boxes": len(boxes) or 1} | more)


def finished(workload: int = W, **more: Any) -> list[dict[str, Any]]:
    job = workload << 10
    return [
        event("job.finished", workload, job, **more),
        event("workload.finished", workload, **more),
    ]


def given(attempt: int, box: str = "2", workload: int = W, **more: Any) -> dict[str, Any]:
    data = {"attempt": attempt, "box": box}
    return event("job.given_again", workload, workload << 10, data=data, **more)


def queued(workload: int = W, **more: Any) -> list[dict[str, Any]]:
    """Until it waits for Boxes."""
    return [event(f"workload.{one}", workload, **more) for one in ("registered", "queued")]


def lost(type_: str = "job.unknown", /, **more: Any) -> dict[str, Any]:
    return event(type_, W, JOB, **more)


def canceled(workload: int = W, **more: Any) -> list[dict[str, Any]]:
    """In phase 1."""
    return [event(f"workload.{one}", workload, **more) for one in ("registered", "finished")]


def found(
    *events: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    shards: Sequence[Row] = ((1, BATCH, 0, None), (2, BATCH, 0, None)),
    projects: Sequence[Row] = ((1, 1, "web", None),),
    boxes: Sequence[Row] = ((1, 7), (2, 7), (3, 8)),
    states: Sequence[Row] = (),
    steps: list[str] | None = None,
) -> list[str]:
    """Return what the replay of these events, which are in one batch, reports."""
    flat = [one for part in events for one in ([part] if isinstance(part, Mapping) else part)]
    rows = [_row(n, dict(one)) for n, one in enumerate(flat, 1)]
    tables = {"shards": shards, "projects": projects, "boxes": boxes, "states": states}

    def query(block: Block) -> Iterable[Row]:
        (name,) = (name for name in (*tables, "history") if SQL[name] is block)
        return rows if name == "history" else tables[name]

    asked: list[str] = [] if steps is None else steps
    return [what for what, _ in Replay(query, asked.append).run()]


def _row(n: int, event: dict[str, Any]) -> Row:
    values = {
        "shard": 1, "batch": 1, "n": n, "data": {}, "lane": None, "number": None, "project": 1,
        "boxes": 1, "kind": "build", "cut": False, "home": 1,
    } | event  # fmt: skip
    order = (
        "shard", "batch", "n", "type", "workload", "job", "data", "lane", "number", "project",
        "boxes", "kind", "cut", "home",
    )  # fmt: skip
    values["data"] = json.dumps(values["data"])
    return tuple(values[name] for name in order)


WHOLE = [*queued(), started(), event("job.started", W, JOB), *finished()]


def test_a_whole_life_breaks_no_rule() -> None:
    assert found(WHOLE, states=[(W, "finished", False)]) == []
    assert found() == []


# --- Places ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("places", "gaps"),
    [
        ([(1, 1, 1), (1, 1, 2), (1, 2, 1)], 0),
        ([(1, 1, 1), (1, 1, 3)], 1),
        ([(1, 1, 2)], 1),
        ([(1, 1, 1), (1, 2, 2)], 1),
        ([(1, 1, 1), (2, 1, 2)], 1),
        ([(1, 1, 1), (2, 1, 1)], 0),
        ([(1, 1, 1), (1, 1, 3), (1, 1, 4)], 1),
    ],
)
def test_an_event_that_is_missing_in_a_batch_is_found(
    places: list[tuple[int, int, int]], gaps: int
) -> None:
    events = [
        event("worker.connected", None, shard=shard, batch=batch, n=n, home=None)
        for shard, batch, n in places
    ]
    assert found(events) == ["I7: an event is missing before this one in its batch"] * gaps


def test_an_event_of_a_batch_that_its_shard_has_not_committed_is_found() -> None:
    late = "I7: an event has a batch that its shard has not committed"
    one = event("worker.connected", None, home=None, n=1)
    assert found(one | {"batch": BATCH}) == []
    assert found(one | {"batch": BATCH + 1}) == [late]
    assert found(one | {"shard": 9}) == [late], "of a shard that is not there"


def test_an_event_belongs_to_the_shard_of_its_workload() -> None:
    assert found(event("workload.registered", home=2)) == [
        "I7: an event in another shard than its workload"
    ]
    assert found(event("workload.registered", home=None)) == []


# --- The order of a workload's and a job's events ---------------------------------------------


@pytest.mark.parametrize("kind", sorted(set(replay.WORKLOAD_FOLLOWS) - {None}, key=str))
def test_an_event_may_follow_only_certain_events(kind: str) -> None:
    first = {each for each, next_ in replay.WORKLOAD_FOLLOWS.items() if kind in next_}
    way = {
        "workload.registered": queued()[:1],
        "workload.queued": queued(),
        "workload.started": [*queued(), started()],
        "workload.stopping": [*queued(), started(), event("workload.stopping")],
    }
    assert (ORDER in found(event(kind))) is (None not in first)
    for before, events in way.items():
        one = started() if kind == "workload.started" else event(kind)
        assert (ORDER in found(events, one)) is (before not in first), before
    assert ORDER in found(WHOLE, event(kind)), "nothing follows the end"


@pytest.mark.parametrize("kind", replay.MOVE_NOTHING)
def test_what_changes_no_state_comes_between_registration_and_end(kind: str) -> None:
    assert found(event(kind)) == [ORDER]
    assert found(queued()[:1], event(kind), queued()[1:], event(kind), started()) == []
    assert found(WHOLE, event(kind)) == [ORDER]
    assert found(event(kind, cut=True), queued(cut=True)[1:]) == [], "its first events are gone"


def test_a_commit_is_found_while_a_workload_runs() -> None:
    early = ["V3: a commit was found for a workload that does not run"]
    commit = event(replay.COMMIT_FIXED)
    assert found(queued(), commit) == early
    assert found(queued(), started(), commit, event("workload.stopping"), commit) == []
    assert found(WHOLE, commit) == early
    assert found(commit | {"cut": True}, [one | {"cut": True} for one in finished()]) == []


@pytest.mark.parametrize("kind", sorted(set(replay.JOB_FOLLOWS) - {None}, key=str))
def test_a_jobs_event_may_follow_only_certain_events(kind: str) -> None:
    assert (JOB_ORDER in found(lost(kind))) is (kind not in replay.JOB_FOLLOWS[None])
    for before, next_ in replay.JOB_FOLLOWS.items():
        if before is not None:
            events = [*queued(), started(), lost(before, cut=True), lost(kind, cut=True)]
            assert (JOB_ORDER in found(events)) is (kind not in next_), before
    assert found(lost("job.seen_again", cut=True)) == [], "its first events are gone"


# --- Boxes ----------------------------------------------------------------------------------


def test_a_box_runs_one_job_at_a_time() -> None:
    second = [*queued(OTHER), started(OTHER)]
    assert found(queued(), started(), second) == [TAKEN]
    assert found(WHOLE, second) == [], "it is free again"
    assert found(queued(), started(), queued(OTHER), started(OTHER, "2")) == []
    both = [queued(), started(), second, finished()]
    assert found(*both) == [TAKEN], "it is the second one's"
    assert found(*both, queued(3), started(3)) == [TAKEN, TAKEN]
    assert found(*both, finished(OTHER), queued(3), started(3)) == [TAKEN], "it is free again"


def test_a_workload_gets_all_its_boxes_at_once() -> None:
    assert found(queued(boxes=2), started(W, "1", "2")) == []
    assert found(queued(boxes=2), started(W, "1", "2", boxes=3)) == [PARTLY]
    assert found(queued(boxes=2), started(W, "1", boxes=2)) == [PARTLY]
    busy = {"boxes_taken": ["1"], "capacity": {"busy": 3, "total": 2}}
    assert found(queued(), started(data=busy)) == ["I1, V10: more Boxes were busy than existed"]
    full = {"boxes_taken": ["1"], "capacity": {"busy": 2, "total": 2}}
    assert found(queued(), started(data=full)) == []


def test_a_workload_ends_after_its_jobs() -> None:
    assert found(queued(), started(), event("workload.finished")) == [HELD]
    two = [*queued(boxes=2), started(W, "1", "2")]
    ends = [event("job.finished", W, JOB + n, boxes=2) for n in range(2)]
    assert found(two, ends, event("workload.finished", boxes=2)) == []
    for left in range(2):
        assert found(two, ends[left], event("workload.finished", boxes=2)) == [HELD]


def test_a_job_that_was_lost_may_be_assigned_again() -> None:
    before = [*queued(), started(), lost()]
    assert found(before, given(2)) == []
    assert found(before, given(2), lost(), given(3)) == []
    assert found(before, given(2, "1")) == [], "the Box that it had"
    assert found(before, given(2), queued(OTHER), started(OTHER, "1")) == [], "it is free"
    assert found(before, given(2), queued(OTHER), started(OTHER, "2")) == [TAKEN]
    for wrong in (1, 3):
        assert found(before, given(wrong)) == [ATTEMPT]
    assert found(before, given(2), lost(), given(2)) == [ATTEMPT]
    assert found(before, given(3), lost(), given(4)) == [ATTEMPT], "only the gap is reported"


def test_a_job_of_a_cut_history_may_have_any_attempt_before() -> None:
    before = [lost(cut=True)]
    assert found(before, given(5, cut=True)) == []
    assert found(before, given(5, cut=True), lost(cut=True), given(7, cut=True)) == [ATTEMPT]


@pytest.mark.parametrize("kind", ["deploy", "ssh"])
def test_a_job_of_a_deploy_is_assigned_again_only_if_that_was_asked_for(kind: str) -> None:
    more = {"kind": kind}
    before = [*queued(**more), started(**more), lost(**more)]
    assert found(before, given(2, **more)) == [REPEATED]
    for asked in replay.ANOTHER_ATTEMPT:
        assert found(before, lost(asked, **more), given(2, **more)) == []
    assert found(given(2, cut=True, **more)) == [], "its first events are gone"


@pytest.mark.parametrize("begins", replay.WITHHELD_UNTIL)
def test_a_worker_that_gets_no_jobs_gets_none(begins: str) -> None:
    def of(kind: str, worker: str = "7") -> dict[str, Any]:
        return event(kind, None, data={"worker": worker}, home=None)

    ends = replay.WITHHELD_UNTIL[begins]
    admitted = [*queued(), started()]
    assert found(of(begins), admitted) == [WITHHELD]
    assert found(of(begins), of(ends), admitted) == []
    assert found(of(begins), of(ends, "8"), admitted) == [WITHHELD]
    assert found(of(begins, "8"), admitted) == []
    assert found(of(begins, "8"), queued(), started(W, "3")) == [WITHHELD]
    (another,) = set(replay.WITHHELD_UNTIL) - {begins}
    assert found(of(begins), of(another), of(ends), admitted) == [WITHHELD], "one is left"
    assert found(of(begins), admitted, boxes=[]) == [], "the Box is gone by now"
    assert found(queued(), started(W, "3"), of(begins), lost(), given(2)) == [WITHHELD]


# --- Limits ---------------------------------------------------------------------------------


def running(boxes: int, **more: Any) -> list[dict[str, Any]]:
    return [
        one for n in range(1, boxes + 1) for one in (*queued(n, **more), started(n, str(n), **more))
    ]


def test_a_plan_limits_the_boxes_of_its_shard() -> None:
    shards = [(1, BATCH, 0, 2)]
    assert found(running(2), shards=shards) == []
    assert found(running(3), shards=shards) == [PLAN]
    assert found(running(2), finished(1), queued(3), started(3, "1"), shards=shards) == []
    two = [*running(2), *lost_and_given()]
    assert found(two, queued(3), started(3, "9"), shards=shards) == [PLAN]
    assert found(two, shards=shards) == [], "an assignment that is repeated takes no more"
    for since, reported in ((0, [PLAN]), (1, [])):
        since_then = [(1, BATCH, since, 2)]
        assert found(running(3), shards=since_then) == reported, "the plan was changed then"


def lost_and_given() -> list[dict[str, Any]]:
    return [lost(), given(2, "8")]


def test_shards_have_their_own_plans() -> None:
    shards = [(1, BATCH, 0, 1), (2, BATCH, 0, 1)]
    second = [*queued(OTHER, shard=2, home=2), started(OTHER, "2", shard=2, home=2)]
    events = [*queued(), started(), *second]
    for n, one in enumerate(events[3:], 1):
        one["n"] = n
    assert found(events, shards=shards) == []


def test_a_project_limits_its_boxes_since_its_last_change() -> None:
    limited = [(1, 1, "web", 2), (2, 1, "api", 1), (3, 1, "free", None), (4, 2, "2\x1fweb", 5)]
    changed = event("project.changed", None, home=None, data={"project": "web"})
    other = changed | {"data": {"project": "api"}}
    assert found(running(2), projects=limited) == []
    assert found(running(3), projects=limited) == [LIMIT]
    assert found(running(4), projects=limited) == [LIMIT] * 2
    assert found(running(1, project=2), projects=limited) == []
    assert found(running(2, project=2), projects=limited) == [LIMIT]
    assert found(running(3, project=3), projects=limited) == []
    assert found(running(3), changed, projects=limited) == []
    assert found(running(3), other, projects=limited) == [LIMIT]
    elsewhere = changed | {"shard": 2, "n": 1}
    assert found(running(3), elsewhere, projects=limited) == [LIMIT], "of another organization"
    assert found(running(2), finished(1), queued(3), started(3, "1"), projects=limited) == []


# --- Lanes ----------------------------------------------------------------------------------


def test_one_workload_of_a_lane_at_a_time_and_in_order() -> None:
    first, second = {"lane": "main", "number": 4}, {"lane": "main", "number": 5}
    whole = [one | first for one in WHOLE]
    assert found(whole, queued(OTHER, **second)) == []
    assert found(queued(**first), queued(OTHER, **second)) == [LANE]
    assert found(queued(**first), queued(OTHER, **second | {"lane": "x"})) == []
    assert found(queued(**first), queued(OTHER, number=9)) == [], "it has no lane"
    assert found(whole, queued(OTHER, lane="main", number=3)) == [LANE_ORDER]
    assert found(whole, queued(OTHER, lane="main", number=4)) == [LANE_ORDER]
    canceled = [event("workload.registered", OTHER, **second)]
    ends = [event("workload.finished", OTHER, **second)]
    third = queued(3, lane="main", number=6)
    assert found(queued(**first), canceled, ends, third) == [LANE], "the first still has it"


# --- The state at the end -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "state", "cut", "differs"),
    [
        ([], "registered", False, True),
        ([], "registered", True, False),
        (queued()[:1], "registered", False, False),
        (queued(), "queued", False, False),
        (queued(), "registered", False, True),
        (queued(), "registered", True, True),
        ([*queued(), started()], "running", False, False),
        ([*queued(), started(), event("workload.stopping")], "stopping", False, False),
        (WHOLE, "finished", False, False),
        (WHOLE, "running", False, True),
    ],
)
def test_the_history_ends_with_the_state_in_the_table(
    events: list[dict[str, Any]], state: str, cut: bool, differs: bool
) -> None:
    assert found(events, states=[(W, state, cut)]) == [LAST] * differs


def test_a_finding_names_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "EVENTS_A_STEP", 2)
    steps: list[str] = []
    found(WHOLE, steps=steps)
    assert steps == [f"the history: {n} events" for n in (0, 2, 4)]
    rows = [_row(n, one) for n, one in enumerate([*queued(), *finished()], 1)]
    tables = {"shards": [(1, BATCH, 0, None)], "history": rows}

    def query(block: Block) -> Iterable[Row]:
        return next((each for name, each in tables.items() if SQL[name] is block), [])

    states = [(W, "queued", False)]
    assert list(Replay(query, steps.append).run()) == []
    tables["states"] = states
    assert list(Replay(query, steps.append).run()) == [(LAST, (W, "finished", "queued"))]
    rows[2] = _row(3, event("workload.registered"))
    assert (ORDER, ("1.1.3", "workload.registered", W, None)) in Replay(query, steps.append).run()


def test_a_workload_that_is_canceled_in_phase_1_leaves_its_lane_as_it_is() -> None:
    first, second = {"lane": "a", "number": 1}, {"lane": "a", "number": 2}
    assert found(canceled(W, **first)) == []
    assert found(queued(W, **first), canceled(OTHER, **second)) == []
    assert found(canceled(W, **first), queued(OTHER, **second)) == []
    third = {"lane": "a", "number": 3}
    assert LANE in " ".join(
        found(queued(W, **first), canceled(OTHER, **second), queued(3, **third))
    )
