"""Where the time of a build goes, as ``/metrics`` and ``bench`` say it: on a held clock."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.engine import turn
from boxsched.engine.stages import STORED_AT_MOST, Stages
from boxsched.model import WorkloadId
from boxsched.protocol import inbox
from boxsched.protocol.batches import Committed
from boxsched.states import Result
from boxsched.store import Store
from tests.engine.shop import Shop


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    shop = await Shop.open(tmp_path, boxes=2)
    await shop.project("web")
    yield shop
    await shop.close()


async def test_a_build_from_its_submission_to_its_end(shop: Shop) -> None:
    stages = shop.engine._tally._stages
    (id_,) = await shop.submit(shop.new())
    stages.stored([id_])
    shop.clock.time += 3.0  # in the inbox
    await shop.settle()
    assert stages.seconds["inbox"] == 3.0
    assert stages.seconds["queue"] == 0.0
    (assignment,) = await shop.assignments()
    finished = inbox.JobFinished(
        assignment.job, assignment.lease_token, 0.0, Result.PASSED, 0, None, seconds=7.0
    )
    said = shop.engine.report(inbox.Reports(shop.worker, (finished,)))
    assert said is not None
    shop.clock.time += 2.0  # until the leader takes the report up
    await shop.settle()
    assert stages.seconds["report"] == 2.0
    assert stages.seconds["run"] == 7.0
    assert stages.busy_box_seconds == 2.0, "one Box, from the build's batch to its end's"


async def test_a_build_that_waits_for_a_box(shop: Shop) -> None:
    first = await shop.build(branch="a", jobs=2)
    await shop.build(branch="b")
    shop.clock.time += 5.0
    for assignment in await shop.assignments():
        assert assignment.workload == first
        await shop.finish(assignment)
    stages = shop.engine._tally._stages
    assert stages.seconds["queue"] == 5.0
    assert stages.seconds["run"] == 0.0, "nobody measured them"
    assert stages.busy_box_seconds == 10.0, "two Boxes"


async def test_the_leaders_decision_and_its_commit_count_for_each_that_moved(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are admitted in one turn, a third one waits."""
    stages = shop.engine._tally._stages
    run, commit = turn.run, type(shop.store).commit

    def slow_run(*arguments: Any) -> None:
        shop.clock.time += 0.25
        run(*arguments)

    async def slow_commit(store: Store, *arguments: Any) -> Committed:
        shop.clock.time += 0.5
        return await commit(store, *arguments)

    monkeypatch.setattr(turn, "run", slow_run)
    monkeypatch.setattr(type(shop.store), "commit", slow_commit)
    await shop.submit(*(shop.new(branch=branch) for branch in "abc"))
    await shop.settle()
    assert (stages.seconds["decide"], stages.seconds["commit"]) == (0.5, 1.0)
    (one, other) = await shop.assignments()
    await shop.finish(one)
    assert (stages.seconds["decide"], stages.seconds["commit"]) == (1.0, 2.0)
    counters = shop.engine.counters
    assert (counters.admitted, counters.finished) == (3, 1)
    assert counters.largest_turn == 4, "the project and the builds"
    assert other in await shop.assignments()


def test_submissions_that_no_leader_here_takes_up_are_bounded() -> None:
    stages = Stages(lambda: 1.0)
    stages.stored([WorkloadId(number) for number in range(STORED_AT_MOST)])
    stages.stored([WorkloadId(STORED_AT_MOST)])
    stages.taken_up([WorkloadId(0), WorkloadId(STORED_AT_MOST)], 4.0)
    assert stages.seconds["inbox"] == 3.0
