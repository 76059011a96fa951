"""What a job has with either driver: its result, output, stop, time limit, secrets and adoption."""

from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from boxsched.protocol.assignments import JobSecret
from boxsched.states import Result
from tests.worker.conftest import end, needs_bubblewrap
from tests.worker.harness import AgentHarness, assigned, eventually

WAIT = "until [ -e {} ]; do sleep 0.02; done"


@pytest.fixture
def tmp_path(reachable_folder: Path) -> Path:
    return reachable_folder


@pytest.fixture(params=["process", pytest.param("bubblewrap", marks=needs_bubblewrap)])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AgentHarness]:
    harness = AgentHarness(tmp_path / "worker", driver=request.param)
    await harness.agent.start()
    yield harness
    await end(harness)


async def test_a_result_its_output_and_its_times(harness: AgentHarness) -> None:
    finished = await harness.run("echo one", "echo two >/dev/stderr", "(exit 3)", "echo three")
    assert (finished.result, finished.exit_status) == (Result.FAILED, 3)
    assert finished.reason == "exit status 3" and not finished.not_begun
    assert harness.log() == b"one\ntwo\n"
    assert finished.seconds is not None and finished.seconds > 0
    assert (await harness.run_also(2, "true")).result is Result.PASSED


async def test_home_and_temporary_files_are_its_own_and_empty(harness: AgentHarness) -> None:
    await harness.run(
        'for d in . "$HOME"; do ls -A "$d"; echo x > "$d/file"; done; echo x > "$TMPDIR/file"',
        'test "$(pwd)" != "$HOME"; id -un >/dev/null; ls "$HOME"',
    )
    assert harness.log() == b"file\n"
    await eventually(lambda: not (harness.folder / "w1-1-1/box").exists())


async def test_a_process_that_its_script_left_has_the_grace_of_a_stop(
    harness: AgentHarness,
) -> None:
    """The script ends at once; what it started cleans up."""
    clean = "(trap 'sleep 0.3; echo cleaned; exit' TERM; echo ready; while :; do sleep 0.05; done)"
    wanted = assigned(1, f"{clean} &", "wait")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    assert harness.log().endswith(b"cleaned\n")


async def test_what_ignores_a_stop_is_killed_after_its_grace(harness: AgentHarness) -> None:
    harness.agent._driver.__dict__["_stop_grace"] = 0.2
    wanted = assigned(1, "trap '' TERM; echo ready; while :; do sleep 0.05; done")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED


async def test_a_time_limit(harness: AgentHarness) -> None:
    finished = await harness.run(
        "trap 'echo in time; exit 5' TERM; sleep 300 & wait", timeout_seconds=0.5
    )
    assert (finished.result, finished.reason) == (Result.FAILED, "time limit of 0.5 s")
    assert finished.exit_status is None and b"in time" in harness.log()


async def test_secrets_as_variables_and_as_files(harness: AgentHarness) -> None:
    secrets = (JobSecret("PASSWORD", "canary-one"), JobSecret("KEY", "canary-two", file=True))
    finished = await harness.run(
        "echo $PASSWORD | rev", 'rev < "$KEY"; echo', "echo $PASSWORD", 'cat "$KEY"',
        secrets=secrets,
    )  # fmt: skip
    assert finished.result is Result.PASSED
    assert harness.log().split()[:2] == [b"eno-yranac", b"owt-yranac"]
    assert b"canary" not in harness.log()


async def test_an_agent_adopts_a_job_and_its_output(harness: AgentHarness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wanted = assigned(1, "echo before", WAIT.format(gate), "echo after", "exit 7")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"before")
    await harness.restart()
    await harness.agent.reconcile([wanted])
    gate.touch()
    assert (await harness.end(1)).exit_status == 7
    assert harness.log() == b"before\nafter\n"


async def test_a_job_with_a_lease_ends_when_no_node_answers(
    harness: AgentHarness, tmp_path: Path
) -> None:
    harness.agent._driver.__dict__["_lost_after"] = 0.5
    finished = await harness.run("sleep 300")
    assert finished.lost and finished.reason == "lost: no node answered for 0.5 s"


async def test_a_job_that_cannot_be_started_fails_and_is_no_problem_of_the_worker(
    harness: AgentHarness,
) -> None:
    finished = await harness.run("true", environment={"A": "x" * 200_000})
    assert finished.reason == "cannot start the script: Argument list too long"
    assert not finished.not_begun and harness.agent.problem is None
