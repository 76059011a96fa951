"""Explanations after an expected time has passed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol.inbox import JobFinished
from boxsched.scheduling.prediction import expected_duration
from boxsched.states import Result
from tests.engine.harness import EngineHarness

RUN_SECONDS, LIMIT_SECONDS, LATE_SECONDS = 10.0, 60.0, 30.0


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=1)
    await harness.project("web")
    yield harness
    await harness.close()


async def test_the_usual_end_and_the_first_promise_stay_after_they_have_passed(
    harness: EngineHarness,
) -> None:
    # 1. One run shows how long such a job usually takes.
    await harness.build()
    known = await harness.assignments()
    await harness.start(known)
    harness.clock.time += RUN_SECONDS
    await harness.finish(known[0])
    # 2. The next one is late, and another waits for it as the head of the queue.
    began = harness.clock.time
    late = await harness.build()
    await harness.start(await harness.assignments())
    waits = await harness.build(branch="other")
    usual_end = began + expected_duration([RUN_SECONDS])
    assert harness.first is not None
    await harness.later(LATE_SECONDS, harness.first)
    report = harness.why(waits)
    assert report is not None
    [blocker] = report.blocked_by
    assert blocker.id == late
    assert blocker.usual_end == pytest.approx(usual_end)
    assert blocker.expected_end == pytest.approx(began + LIMIT_SECONDS)
    assert report.promised_start == pytest.approx(usual_end)
    assert report.expected_start == pytest.approx(began + LIMIT_SECONDS)


async def test_a_repeated_build_counts_from_its_new_attempt(harness: EngineHarness) -> None:
    await harness.build()
    known = await harness.assignments()
    await harness.start(known)
    harness.clock.time += RUN_SECONDS
    await harness.finish(known[0])
    usual = expected_duration([RUN_SECONDS])
    # 1. Its worker reports it as lost: it is given again, 30 s after its start.
    build = await harness.build()
    (held,) = await harness.assignments()
    await harness.start([held])
    assert harness.first is not None
    await harness.later(LATE_SECONDS, harness.first)
    now = harness.clock.now()
    await harness.report(
        JobFinished(held.job, held.lease_token, now, Result.FAILED, None, "lost", lost=True)
    )
    assert (await harness.look(build)).jobs[0].attempt == 2
    waits = await harness.build(branch="other")
    # 2. A new leader expects the same.
    for _ in range(2):
        report = harness.why(waits)
        assert report is not None
        [blocker] = report.blocked_by
        assert blocker.usual_end == blocker.expected_end == pytest.approx(now + usual)
        assert report.expected_start == pytest.approx(now + usual)
        await harness.restart()
    # 3. It is late again: the time limit of this attempt applies.
    await harness.later(LATE_SECONDS, harness.first)
    report = harness.why(waits)
    assert report is not None
    assert report.expected_start == pytest.approx(now + LIMIT_SECONDS)
