"""What explanations say once an expected time has passed."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.protocol.inbox import JobFinished
from boxsched.scheduling.prediction import expected_duration
from boxsched.states import Result
from tests.engine.shop import Shop

RUN_SECONDS, LIMIT_SECONDS, LATE_SECONDS = 10.0, 60.0, 30.0


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=1)
    await shop.project("web")
    yield shop
    await shop.close()


async def test_the_usual_end_and_the_first_promise_stay_when_they_have_passed(shop: Shop) -> None:
    # 1. One run tells how long such a job usually takes.
    await shop.build()
    known = await shop.assignments()
    await shop.start(known)
    shop.clock.time += RUN_SECONDS
    await shop.finish(known[0])
    # 2. The next one is late, and another waits for it as the head of the queue.
    began = shop.clock.time
    late = await shop.build()
    await shop.start(await shop.assignments())
    waits = await shop.build(branch="other")
    usual_end = began + expected_duration([RUN_SECONDS])
    assert shop.first is not None
    await shop.later(LATE_SECONDS, shop.first)
    report = shop.why(waits)
    assert report is not None
    [blocker] = report.blocked_by
    assert blocker.id == late
    assert blocker.usual_end == pytest.approx(usual_end)
    assert blocker.expected_end == pytest.approx(began + LIMIT_SECONDS)
    assert report.promised_start == pytest.approx(usual_end)
    assert report.expected_start == pytest.approx(began + LIMIT_SECONDS)


async def test_a_repeated_build_counts_from_its_new_attempt(shop: Shop) -> None:
    await shop.build()
    known = await shop.assignments()
    await shop.start(known)
    shop.clock.time += RUN_SECONDS
    await shop.finish(known[0])
    usual = expected_duration([RUN_SECONDS])
    # 1. Its worker says that it was lost: it is given again, 30 s after its start.
    build = await shop.build()
    (held,) = await shop.assignments()
    await shop.start([held])
    assert shop.first is not None
    await shop.later(LATE_SECONDS, shop.first)
    now = shop.clock.now()
    await shop.report(
        JobFinished(held.job, held.lease_token, now, Result.FAILED, None, "lost", lost=True)
    )
    assert (await shop.look(build)).jobs[0].attempt == 2
    waits = await shop.build(branch="other")
    # 2. A new leader expects the same of it.
    for _ in range(2):
        report = shop.why(waits)
        assert report is not None
        [blocker] = report.blocked_by
        assert blocker.usual_end == blocker.expected_end == pytest.approx(now + usual)
        assert report.expected_start == pytest.approx(now + usual)
        await shop.restart()
    # 3. Late again: to the time limit of this attempt.
    await shop.later(LATE_SECONDS, shop.first)
    report = shop.why(waits)
    assert report is not None
    assert report.expected_start == pytest.approx(now + LIMIT_SECONDS)
