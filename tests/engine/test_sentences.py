"""The exact sentences of explanations, and the blockers that they name."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boxsched.engine import blockers
from boxsched.engine.absent_text import beside_text, too_few_there, where_text
from boxsched.engine.capacity import Absence
from boxsched.engine.reason_text import phrase
from boxsched.engine.sight import what_to_do
from boxsched.model import Kind, WorkloadId, job_id
from boxsched.scheduling.reasons import (
    AwaitsPlan,
    BehindReservation,
    NeedsBoxes,
    NoSuchBoxes,
    Paused,
    PlanLimit,
    ProjectLimit,
    QueueOrder,
    Reason,
    Runs,
    WaitsForLane,
)
from boxsched.states import State
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    """One worker "w" with two Boxes."""
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    await harness.settle()
    yield harness
    await harness.close()


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (NoSuchBoxes("default", 3, 0), "Asks for 3 Boxes; there is none."),
        (NoSuchBoxes("default", 3, 1), "Asks for 3 Boxes; there is only 1."),
        (NoSuchBoxes("mac", 3, 2), "Asks for 3 mac Boxes; there are only 2."),
        (NeedsBoxes("default", 1, 0), "Needs 1 Box; 0 free now."),
        (NeedsBoxes("mac", 2, 1), "Needs 2 mac Boxes; 1 free now."),
        (PlanLimit(2, 3, 4), "Needs 2 Boxes; 3 of the plan's 4 are in use."),
        (PlanLimit(4, 0, 4), "Needs 4 Boxes; 0 of the plan's 4 are in use."),
        (PlanLimit(5, 0, 4), "Asks for 5 Boxes; the plan is 4: it can never start."),
        (ProjectLimit(2, 3, 4), "Needs 2 Boxes; its project uses 3 of at most 4."),
        (ProjectLimit(5, 0, 4), "Asks for 5 Boxes; its project has 4: it can never start."),
        (WaitsForLane(()), "Waits for an earlier one to finish."),
        (AwaitsPlan(), "Its jobs are not known yet."),
        (Paused("freeze"), "Paused (freeze)."),
        (Paused("a", ("b",)), "Paused (a). Also paused by the pause b."),
        (Paused("a", ("b", "c")), "Paused (a). Also paused by the pauses b, c."),
        (QueueOrder(WorkloadId(7)), "Would fit now, but comes behind an earlier one."),
        (Runs(), "Has its Boxes."),
    ],
)
async def test_each_reason_has_its_sentence(
    harness: EngineHarness, reason: Reason, text: str
) -> None:
    assert harness.engine.books is not None
    assert phrase(harness.engine.books, reason, {}) == text


@pytest.mark.parametrize(
    ("absence", "text"),
    [
        (
            Absence(0, 2, ("a",), 0, ()),
            "none is on connected workers, 2 more on a, not connected",
        ),
        (Absence(1, 1, ("a",), 0, ()), "1 is on connected workers, 1 more on a, not connected"),
        (
            Absence(2, 0, (), 3, ("b (no git)",)),
            "2 are on workers that can begin jobs, 3 more on b (no git)",
        ),
        (
            Absence(2, 4, tuple("abcd"), 0, ()),
            "2 are on connected workers, 4 more on a, b, c and 1 more, not connected",
        ),
        (
            Absence(1, 0, (), 0, (), 2, ("c",)),
            "1 is on workers that are given jobs, 2 more on c, draining",
        ),
        (
            Absence(1, 0, (), 0, (), incompatible=2, incompatible_workers=("d (old)",)),
            "1 is on workers that are given jobs, 2 more on d (old), incompatible",
        ),
        (
            Absence(0, 1, ("a",), 2, ("b (full)",), 3, ("c",), 4, ("d (old)",)),
            "none is on workers that are given jobs, 1 more on a, not connected, "
            "2 more on b (full), 3 more on c, draining, 4 more on d (old), incompatible",
        ),
    ],
)
def test_a_sentence_says_which_boxes_are_in_use(absence: Absence, text: str) -> None:
    assert where_text(absence) == text


@pytest.mark.parametrize(
    ("absence", "text"),
    [
        (None, ""),
        (Absence(1, 2, ("a",), 0, ()), ""),
        (Absence(1, 0, (), 2, ("b (full)",)), " 2 more cannot begin jobs: b (full)."),
        (Absence(1, 0, (), 0, (), 1, ("c",)), " 1 Box is draining: c."),
        (Absence(1, 0, (), 0, (), 2, ("c", "e")), " 2 Boxes are draining: c, e."),
        (
            Absence(1, 0, (), 0, (), incompatible=3, incompatible_workers=("d (old)",)),
            " 3 more are on incompatible workers: d (old).",
        ),
        (
            Absence(0, 1, ("a",), 2, ("b (full)",), 3, ("c",), 4, ("d (old)",)),
            " 2 more cannot begin jobs: b (full). 3 Boxes are draining: c."
            " 4 more are on incompatible workers: d (old).",
        ),
    ],
)
def test_a_sentence_says_which_boxes_are_withdrawn(absence: Absence | None, text: str) -> None:
    absent = {} if absence is None else {"mac": absence}
    assert beside_text(absent, "mac") == text
    assert beside_text(absent, "default") == "", "those of another type"


@pytest.mark.parametrize(("asked", "is_too_few"), [(2, False), (3, True)])
def test_workers_must_return_if_those_that_are_there_have_too_few_boxes(
    asked: int, is_too_few: bool
) -> None:
    absent = {"mac": Absence(2, 4, ("a",), 0, ())}
    assert too_few_there(NeedsBoxes("mac", asked, 0), absent) is is_too_few
    assert not too_few_there(NeedsBoxes("default", asked, 0), absent)


@pytest.mark.parametrize(
    ("kind", "state", "jobs", "text"),
    [
        (Kind.DEPLOY, State.RUNNING, 1, "passed|failed|again`."),
        (Kind.DEPLOY, State.RUNNING, 3, "passed|failed|again` (and 2 more)."),
        (Kind.SSH, State.STOPPING, 2, "passed|failed` (and 1 more)."),
    ],
)
async def test_a_sentence_says_what_a_person_can_do_about_an_absent_worker(
    harness: EngineHarness, kind: Kind, state: State, jobs: int, text: str
) -> None:
    live: Any = SimpleNamespace(kind=kind, state=state)
    unseen: list[Any] = [SimpleNamespace(id=job_id(WorkloadId(7), n)) for n in range(jobs)]
    said = "If the worker will not return, set the job's result: `boxsched resolve w7-1 "
    assert harness.engine.books is not None
    assert what_to_do(harness.engine.books, live, unseen) == said + text


@pytest.mark.parametrize(
    ("state", "attempts", "text"),
    [
        (State.RUNNING, [1], "the job gets a free Box of another worker about 136 s"),
        (State.RUNNING, [1, 3], "the jobs get free Boxes of another worker about 136 s"),
        (State.RUNNING, [3], "the job ends about 136 s"),
        (State.STOPPING, [1, 1], "the jobs end about 136 s"),
    ],
)
async def test_a_sentence_says_until_when_a_build_waits_for_its_worker(
    harness: EngineHarness, state: State, attempts: list[int], text: str
) -> None:
    live: Any = SimpleNamespace(kind=Kind.BUILD, state=state)
    unseen: list[Any] = [SimpleNamespace(box=None, attempt=n, retried=None) for n in attempts]
    assert harness.engine.books is not None
    said = what_to_do(harness.engine.books, live, unseen)
    assert said == f"If it stays away, {text} after its silence began."


async def test_a_workload_that_would_delay_the_head_shows_the_heads_start(
    harness: EngineHarness,
) -> None:
    await harness.build(branch="a", timeout=60.0)
    head = await harness.build(branch="b", jobs=2)
    long = await harness.build(branch="c", timeout=3_600.0)
    report = harness.why(long)
    assert report is not None and report.reason == "behind_reservation"
    assert report.text == (
        "Would fit now, but would delay build #2 of web, which is to start by 1970-01-12T13:47:40Z."
    )
    assert [blocker.id for blocker in report.blocked_by] == [head]
    (blocker,) = report.blocked_by
    assert (blocker.number, blocker.project, blocker.boxes) == (2, "web", 2)
    assert (blocker.expected_end, blocker.usual_end) == (None, None)


async def test_a_workload_behind_an_overdue_head_mentions_time_limits(
    harness: EngineHarness,
) -> None:
    await harness.build(branch="a", timeout=60.0)
    head = await harness.build(branch="b", jobs=2)
    assert harness.engine.books is not None
    late = BehindReservation(head, harness.clock.now() + 60.0, by_limit=True)
    assert phrase(harness.engine.books, late, {}) == (
        "Would fit now, but would delay build #2 of web, which is to start by "
        "1970-01-12T13:47:40Z and waits too long already: time limits count, not usual times."
    )


async def test_a_blocker_counts_the_boxes_that_it_still_holds(harness: EngineHarness) -> None:
    runs = await harness.build(branch="a", jobs=2, timeout=60.0)
    waits = await harness.build(branch="b", jobs=2)
    began = harness.clock.now()
    for held in (2, 1):
        report = harness.why(waits)
        assert report is not None
        (blocker,) = report.blocked_by
        assert (blocker.id, blocker.boxes, blocker.expected_end) == (runs, held, began + 60)
        await harness.finish((await harness.assignments())[0])


async def test_a_workload_that_waits_in_a_lane_names_the_first_ahead_and_counts_the_others(
    harness: EngineHarness,
) -> None:
    for _ in range(3):
        last = await harness.build()
    report = harness.why(last)
    assert report is not None
    assert report.text == "Waits for build #1 of web and 1 more before it to finish."
    assert harness.reasons()[last] == "Waits for build #2 of web to finish.", "on a page, the next"


async def test_a_build_whose_jobs_are_to_be_read_reports_it(harness: EngineHarness) -> None:
    build = await harness.build(jobs=0)
    report = harness.why(build)
    assert report is not None
    assert (report.reason, report.phase, report.position) == ("planning", "ordering", None)
    assert report.text == harness.reasons()[build] == "Its jobs are not known yet."
    assert (report.needs, report.free) == ({}, {})


async def test_a_stopping_workload_shows_when_its_boxes_are_free(harness: EngineHarness) -> None:
    build = await harness.build()
    await harness.start(await harness.assignments())
    await harness.stop(build)
    report = harness.why(build)
    assert report is not None
    assert report.text == "Is being stopped: its Boxes are free when its jobs have ended."


async def test_blockers_at_a_projects_limit_belong_to_the_project(harness: EngineHarness) -> None:
    await harness.project("api", 1)
    await harness.settle()
    holds = await harness.build(project="api")
    other = await harness.build(project="web")
    waits = await harness.build(project="api", branch="x")
    report = harness.why(waits)
    assert report is not None
    assert report.text == "Needs 1 Box; its project uses 1 of at most 1."
    assert [blocker.id for blocker in report.blocked_by] == [holds]
    late = await harness.build(project="web", branch="y")
    report = harness.why(late)
    assert report is not None and report.text == "Needs 1 Box; 0 free now."
    assert {blocker.id for blocker in report.blocked_by} == {holds, other}


async def test_a_deploy_is_named_with_its_server(harness: EngineHarness) -> None:
    for _ in range(2):
        last = await harness.build(server="production")
    report = harness.why(last)
    assert report is not None and report.text == "Waits for deploy #1 of web to finish."


async def test_only_the_first_running_blockers_are_named(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blockers, "BLOCKERS_AT_MOST", 1)
    first = await harness.build(branch="a", timeout=60.0)
    await harness.build(branch="b", timeout=90.0)
    waits = await harness.build(branch="c", jobs=2)
    report = harness.why(waits)
    assert report is not None
    assert [blocker.id for blocker in report.blocked_by] == [first]
