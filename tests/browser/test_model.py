"""The page's model of rows and lists, without a page."""

from typing import Any

import pytest

from tests.browser.page_actions import Run

pytestmark = pytest.mark.browser


# Applies events ([id, event]) and answers of /activity in order; returns the ids of the lists.
MODEL = """(m, steps) => {
    const model = new m.Model();
    const step = (one) => {
        if (one === "forget") return model.forget();
        return Array.isArray(one) ? model.apply(...one) : model.replace(one);
    };
    const complete = steps.map(step).at(-1);
    const ids = (name) => [name, model.inOrder(name).map((row) => row.id)];
    return {...Object.fromEntries(m.LISTS.map(ids)), complete, boxes: model.capacity};
}"""


def event(n: int, what: str, workload: int, **more: object) -> list[Any]:
    data = {"type": f"workload.{what}", "workload": f"w{workload}", "number": workload}
    return [f"1.{n}.0", {**data, "project": "web", "kind": "build", **more}]


def registered(n: int, workload: int, priority: int = 50) -> list[Any]:
    created = f"2026-01-01T00:00:{workload:02}.000000Z"
    return event(n, "registered", workload, priority=priority, created_at=created, boxes=1)


def activity(n: int, **lists: object) -> dict[str, Any]:
    empty: dict[str, list[object]] = {"upcoming": [], "blocked": [], "running": [], "finished": []}
    return {"boxes": {"total": 4, "busy": n}, **empty, **lists, "cursor": f"1.{n}.0"}


def told(workload: int, state: str, **more: object) -> dict[str, Any]:
    at = f"2026-01-01T00:00:{workload:02}.000000Z"
    row = {"id": f"w{workload}", "state": state, "priority": 50, "created_at": at, "started_at": at}
    return {**row, "finished_at": at, **more}


def test_queued_rows_are_ordered_by_priority_then_creation(js: Run) -> None:
    steps = [registered(n, n, priority) for n, priority in ((1, 50), (2, 80), (3, 50), (4, 80))]
    steps += [event(10 - n, "queued", n) for n in (4, 3, 2, 1)]
    assert js("model", MODEL, steps)["blocked"] == ["w2", "w4", "w1", "w3"]


def test_another_priority_moves_a_row_at_once(js: Run) -> None:
    steps = [registered(n, n) for n in (1, 2, 3)]
    steps += [event(3 + n, "queued", n) for n in (1, 2, 3)]
    bumped = [event(8, "prioritized", 3, priority=90), event(9, "prioritized", 9, priority=90)]
    assert js("model", MODEL, [*steps, *bumped])["blocked"] == ["w3", "w1", "w2"]
    lowered = event(10, "prioritized", 3, priority=10)
    assert js("model", MODEL, [*steps, *bumped, lowered])["blocked"] == ["w1", "w2", "w3"]


def test_late_and_repeated_events_change_nothing(js: Run) -> None:
    steps = [registered(1, 1), event(3, "started", 1), event(2, "queued", 1), registered(1, 1)]
    late = activity(0, upcoming=[told(1, "registered")])
    assert js("model", MODEL, [*steps, late])["running"] == ["w1"]


COMMIT = """(m) => {
    const model = new m.Model();
    const row = {id: "w1", state: "running", commit: null, started_at: "2026-01-01T00:00:00Z"};
    model.replace({boxes: {}, running: [row], cursor: "1.0.0"});
    const known = model.rows.get("w1");
    const before = known.version;
    model.apply("1.1.1", {type: "workload.commit", workload: "w1", commit: "abc"});
    model.apply("1.1.2", {type: "workload.commit", workload: "w2", commit: "abc"});
    return [known.commit, known.state, known.version > before, model.rows.size];
}"""


def test_a_commit_is_shown_as_soon_as_it_is_known(js: Run) -> None:
    assert js("model", COMMIT) == ["abc", "running", True, 1]


PLANNED = """(m) => {
    const model = new m.Model();
    const row = {id: "w1", state: "registered", boxes: 0, created_at: "2026-01-01T00:00:00Z"};
    model.replace({boxes: {}, upcoming: [row], cursor: "1.0.0"});
    const known = model.rows.get("w1");
    const before = known.version;
    model.apply("1.1.1", {type: "workload.planned", workload: "w1", boxes: 3, commit: "abc"});
    const planned = [known.boxes, known.commit, known.state, known.version > before];
    model.apply("1.1.2", {type: "workload.finished", workload: "w1", commit: "def"});
    return [planned, known.commit, model.rows.size];
}"""


def test_boxes_and_commit_are_shown_as_soon_as_the_jobs_are_read(js: Run) -> None:
    assert js("model", PLANNED) == [[3, "abc", "registered", True], "def", 1]


ROW = """async (m, row, event) => {
    const model = new m.Model();
    const [{RowView}] = await Promise.all([window.module("row")]);
    model.replace({boxes: {}, running: [row], cursor: "1.0.0"});
    const view = new RowView();
    view.bind(model.rows.get(row.id));
    const said = () => [view.element.dataset.mark, view.word.textContent, view.result.textContent];
    const told = [said()];
    model.apply(...event);
    view.tick();
    told.push(said());
    view.update();
    return [...told, said()];
}"""


def test_a_row_shows_one_state_at_a_time(js: Run) -> None:
    """Its clock continues between two renderings: that of the shown state."""
    at = "2026-01-01T00:01:00.000000Z"
    end = event(9, "finished", 1, result="failed", finished_at=at, reason="job unit failed")
    running = ["running", "runs", ""]
    ended = ["failed", "took", "failed"]
    assert js("model", ROW, told(1, "running", finished_at=None), end) == [running, running, ended]


def test_a_row_shows_how_many_of_its_branch_failed_in_a_row(js: Run) -> None:
    def done(n: int, result: str, **lane: str) -> dict[str, Any]:
        at = f"2026-01-01T00:00:{n:02}.000000Z"
        lane = {"project": "web", "kind": "build", **lane}
        return told(n, "finished", result=result, finished_at=at, **lane)

    finished = [
        done(9, "canceled", branch="main"),  # says nothing about the branch
        done(8, "failed", branch="main"),
        done(7, "passed", branch="main"),
        done(6, "passed", branch="other"),
        done(5, "failed", branch="other"),  # has passed again
        done(4, "failed", branch="main", project="api"),
        done(3, "failed", kind="deploy", server="main"),
        done(2, "failed", kind="ssh", branch="ssh"),
        done(1, "failed", tag="main"),
    ]
    counted = """(m, finished) => {
        const model = new m.Model();
        model.replace({boxes: {}, finished, cursor: "1.0.0"});
        return model.failed();
    }"""
    assert js("model", counted, finished) == 4


def test_a_requested_row_is_in_its_list_until_it_is_dropped(js: Run) -> None:
    asked = """(m, row, known) => {
        const model = new m.Model();
        model.replace({boxes: {}, blocked: [known], cursor: "1.0.0"});
        model.learn(row);
        model.learn({...known, why: undefined});
        const lists = ["finished", "blocked"];
        const ids = () => lists.flatMap((name) => model.inOrder(name)).map((row) => row.id);
        const told = [ids(), model.rows.get(known.id).why];
        model.replace({boxes: {}, blocked: [known], cursor: "1.1.0"});
        told.push(ids());
        model.drop(model.rows.get(row.id));
        return [...told, ids()];
    }"""
    known = told(2, "queued", why="Needs 2 Boxes.")
    both, one = ["w1", "w2"], ["w2"]
    assert js("model", asked, told(1, "finished"), known) == [both, "Needs 2 Boxes.", both, one]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (249, "4 min 9 s"),
        (3_599, "59 min 59 s"),
        (3_600, "1 h"),
        (3_720, "1 h 2 min"),
        (172_799, "47 h 59 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_are_shown_in_words(js: Run, seconds: float, said: str) -> None:
    assert js("times", "(m, seconds) => m.duration(seconds)", seconds) == said


AHEAD = """(m, seconds) => {
    m.holdClock(true);
    const said = m.ahead(new Date(m.now() + seconds * 1000).toISOString());
    m.holdClock(false);
    return said;
}"""


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (40, "in 40 s"),
        (180, "in 3 min"),
        (209, "in 3 min"),
        (5_400, "in 1 h 30 min"),
        (90_000, "in 25 h"),
        (360_000, "in 4 d 4 h"),
        (4, "any moment"),
        (-4, "any moment"),
        (-5, "5 s overdue"),
        (-249, "4 min 9 s overdue"),
        (-7_200, "2 h overdue"),
    ],
)
def test_overdue_times_show_by_how_much(js: Run, seconds: float, said: str) -> None:
    assert js("times", AHEAD, seconds) == said


WHY = """async (m, told, promised, start) => {
    const times = await window.module("times");
    times.holdClock(true);
    const at = (seconds) => seconds && new Date(times.now() + seconds * 1000).toISOString();
    const view = new m.ExplanationView();
    view.show({...told, text: "Waits.", promised_start: at(promised), expected_start: at(start)});
    times.holdClock(false);
    const terms = [...view.element.querySelectorAll("dt")];
    return terms.map((term) => [term.textContent, term.nextSibling.textContent]);
}"""


def test_an_overdue_start_shows_by_how_much_and_how_many_passed_it(js: Run) -> None:
    told = {"position": 2, "overtaken_by": 3, "blocked_by": [], "needs": {}, "free": {}}
    facts = dict(js("explanation", WHY, told, -249, 180))
    assert facts["Place in the queue"] == "2"
    assert facts["Went ahead"] == "3 that came later"
    assert facts["First expected"].endswith(", 4 min 9 s overdue")
    assert facts["Expected start"].endswith(", in 3 min")
    facts = dict(js("explanation", WHY, {**told, "overtaken_by": 0}, 60, None))
    assert set(facts) == {"Place in the queue"}


def test_an_unknown_row_makes_the_page_ask_for_everything(js: Run) -> None:
    model = js("model", MODEL, [event(5, "started", 7)])
    assert model["complete"] is False and model["running"] == ["w7"]


def test_an_answer_sets_the_order_and_drops_unknown_rows(js: Run) -> None:
    blocked = [told(3, "queued"), told(2, "queued")]
    steps = [registered(1, 1), registered(2, 2), activity(3, blocked=blocked), registered(4, 4)]
    model = js("model", MODEL, steps)
    assert model["upcoming"] == ["w4"] and model["blocked"] == ["w3", "w2"]
    assert model["boxes"] == {"total": 4, "busy": 3, "away": 0, "away_busy": 0}


def test_an_answer_older_than_the_events_drops_nothing_newer(js: Run) -> None:
    model = js("model", MODEL, [registered(5, 1), activity(4)])
    assert model["upcoming"] == ["w1"]


def test_an_answer_counts_as_older_by_the_rows_own_shard(js: Run) -> None:
    known = ["1.4.1+2.7.1", registered(0, 1)[1]]
    early = {**activity(0), "cursor": "1.9.1+2.6.1"}
    assert js("model", MODEL, [known, early])["upcoming"] == ["w1"]
    late = {**activity(0), "cursor": "1.9.1+2.7.1"}
    assert js("model", MODEL, [known, early, late])["upcoming"] == []


def test_of_another_history_nothing_is_left(js: Run) -> None:
    end = event(8, "finished", 2, result="passed", finished_at="2026-01-01T00:01:00.000000Z")
    known = [registered(7, 1), registered(7, 2), end, registered(9, 3)]
    model = js("model", MODEL, [*known, "forget", activity(2, running=[told(2, "running")])])
    assert model["running"] == ["w2"] and model["boxes"]["busy"] == 2
    assert model["upcoming"] == model["finished"] == []


def test_a_row_that_is_missing_in_an_answer_keeps_its_data_until_its_end(js: Run) -> None:
    end = event(9, "finished", 1, result="passed", finished_at="2026-01-01T00:01:00.000000Z")
    model = js("model", MODEL, [registered(1, 1), activity(3), end])
    assert model["finished"] == ["w1"] and model["complete"] is True


def test_finished_workloads_are_forgotten_in_time(js: Run) -> None:
    steps = []
    for n in range(1, 300):
        at = f"2026-01-01T00:{n // 60:02}:{n % 60:02}.000000Z"
        steps += [registered(n, n % 60), event(n, "finished", n, finished_at=at, result="passed")]
    model = js("model", MODEL, steps)
    assert len(model["finished"]) == 50 and model["finished"][0] == "w299"


def test_the_model_applies_a_thousand_events_among_ten_thousand_rows_quickly(js: Run) -> None:
    took = js(
        "model",
        """(m, row) => {
            const model = new m.Model();
            const blocked = Array.from({length: 10000}, (_, n) => ({...row, id: `w${n + 1}`}));
            model.replace({boxes: {}, blocked, cursor: "1.0.0"});
            const started = performance.now();
            for (let n = 1; n <= 1000; n += 1) {
                model.apply(`1.${n}.0`, {type: "workload.started", workload: `w${n}`});
                if (n % 100 === 0) m.LISTS.forEach((name) => model.inOrder(name));
            }
            return performance.now() - started;
        }""",
        told(1, "queued"),
    )
    assert took < 1_000  # a second of such events; some milliseconds on an idle machine
