"""The stages of a build's time, as ``/metrics`` and ``bench`` show them, with a held clock."""

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
from tests.engine.harness import EngineHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[EngineHarness]:
    harness = await EngineHarness.open(tmp_path, boxes=2)
    await harness.project("web")
    yield harness
    await harness.close()


async def test_the_stages_of_a_build_from_submission_to_end(harness: EngineHarness) -> None:
    stages = harness.engine._tally._stages
    (id_,) = await harness.submit(harness.new())
    stages.stored([id_])
    harness.clock.time += 3.0  # in the inbox
    await harness.settle()
    assert stages.seconds["inbox"] == 3.0
    assert stages.seconds["queue"] == 0.0
    (assignment,) = await harness.assignments()
    finished = inbox.JobFinished(
        assignment.job, assignment.lease_token, 0.0, Result.PASSED, 0, None, seconds=7.0
    )
    said = harness.engine.report(inbox.Reports(harness.worker, (finished,)))
    assert said is not None
    harness.clock.time += 2.0  # until the leader reads the report
    await harness.settle()
    assert stages.seconds["report"] == 2.0
    assert stages.seconds["run"] == 7.0
    assert stages.busy_box_seconds == 2.0, "one Box, from the build's batch to its end's"


async def test_the_stages_include_the_wait_for_a_box(harness: EngineHarness) -> None:
    first = await harness.build(branch="a", jobs=2)
    await harness.build(branch="b")
    harness.clock.time += 5.0
    for assignment in await harness.assignments():
        assert assignment.workload == first
        await harness.finish(assignment)
    stages = harness.engine._tally._stages
    assert stages.seconds["queue"] == 5.0
    assert stages.seconds["run"] == 0.0, "nobody measured them"
    assert stages.busy_box_seconds == 10.0, "two Boxes"


async def test_the_leaders_decision_and_commit_count_for_each_workload_that_moved(
    harness: EngineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two are admitted in one turn; a third one waits."""
    stages = harness.engine._tally._stages
    run, commit = turn.run, type(harness.store).commit

    def slow_run(*arguments: Any) -> None:
        harness.clock.time += 0.25
        run(*arguments)

    async def slow_commit(store: Store, *arguments: Any) -> Committed:
        harness.clock.time += 0.5
        return await commit(store, *arguments)

    monkeypatch.setattr(turn, "run", slow_run)
    monkeypatch.setattr(type(harness.store), "commit", slow_commit)
    await harness.submit(*(harness.new(branch=branch) for branch in "abc"))
    await harness.settle()
    assert (stages.seconds["decide"], stages.seconds["commit"]) == (0.5, 1.0)
    (one, other) = await harness.assignments()
    await harness.finish(one)
    assert (stages.seconds["decide"], stages.seconds["commit"]) == (1.0, 2.0)
    counters = harness.engine.counters
    assert (counters.admitted, counters.finished) == (3, 1)
    assert counters.largest_turn == 4, "the project and the builds"
    assert other in await harness.assignments()


def test_the_number_of_submissions_that_wait_for_a_leader_is_limited() -> None:
    stages = Stages(lambda: 1.0)
    stages.stored([WorkloadId(number) for number in range(STORED_AT_MOST)])
    stages.stored([WorkloadId(STORED_AT_MOST)])
    stages.taken_up([WorkloadId(0), WorkloadId(STORED_AT_MOST)], 4.0)
    assert stages.seconds["inbox"] == 3.0
