"""A job outlives its agent, is started exactly once, and is never forgotten."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxsched.model import JobId
from boxsched.states import Result
from boxsched.worker.agent.site import FolderInUse
from tests.worker.harness import AgentHarness, alive, assigned, eventually, pid_in

PROJECT = Path(__file__).resolve().parents[2]


class AgentProcess:
    """An agent that can be killed."""

    def __init__(self, harness: AgentHarness, script: str) -> None:
        self.spool = harness.folder.parent / "spool"
        self.spool.touch()
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.worker.agent_process",
                harness.folder,
                self.spool,
                script,
            ],
            cwd=PROJECT,
        )

    def entries(self) -> list[list[object]]:
        lines = self.spool.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def hand_over(self, harness: AgentHarness) -> None:
        """Put what it reported into the store."""
        for kind, job_id, *rest in self.entries():
            if kind == "log":
                _, offset, data = rest
                chunks = harness.store.chunks[JobId(int(str(job_id)))]
                chunks.setdefault(int(str(offset)), base64.b64decode(str(data)))


@pytest.fixture
def processes() -> Iterator[list[AgentProcess]]:
    processes: list[AgentProcess] = []
    yield processes
    for process in processes:
        process.kill()


async def test_a_job_outlives_its_killed_agent(
    make_harness: Callable[..., AgentHarness], tmp_path: Path, processes: list[AgentProcess]
) -> None:
    harness = make_harness()
    gate, ledger = tmp_path / "gate", tmp_path / "ledger"
    script = f"echo ran >> {ledger}; for i in 1 2 3 4 5; do echo $i; sleep 0.05; done; "
    script += f"until [ -e {gate} ]; do sleep 0.01; done; seq 6 50000"
    process = AgentProcess(harness, script)
    processes.append(process)
    await eventually(lambda: any(entry[0] == "log" for entry in process.entries()))
    process.kill()
    process.hand_over(harness)
    gate.touch()

    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, script)])
    finished = await harness.end(1)
    assert finished.result is Result.PASSED
    assert harness.log() == "".join(f"{i}\n" for i in range(1, 50_001)).encode()
    assert ledger.read_text() == "ran\n"


@pytest.mark.parametrize("moment", ["script", "record", "started", "running", "result"])
async def test_a_job_runs_once_if_its_agent_is_killed_at_any_time(
    make_harness: Callable[..., AgentHarness],
    tmp_path: Path,
    processes: list[AgentProcess],
    moment: str,
) -> None:
    harness = make_harness()
    ledger = tmp_path / "ledger"
    script = f"echo ran >> {ledger}; seq 20000"
    process = AgentProcess(harness, script)
    processes.append(process)
    await eventually((harness.folder / "w1-1-1" / moment).exists)
    process.kill()
    process.hand_over(harness)

    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, script)])
    assert (await harness.end(1)).result is Result.PASSED
    assert harness.log() == "".join(f"{i}\n" for i in range(1, 20_001)).encode()
    assert ledger.read_text() == "ran\n"


async def test_a_stop_reaches_an_adopted_job(
    make_harness: Callable[..., AgentHarness], tmp_path: Path, processes: list[AgentProcess]
) -> None:
    harness = make_harness()
    script = f"echo $$ > {tmp_path}/pid; echo ready; while :; do sleep 0.05; done"
    process = AgentProcess(harness, script)
    processes.append(process)
    await eventually(lambda: any(entry[0] == "log" for entry in process.entries()))
    process.kill()
    process.hand_over(harness)
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, script, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    assert not alive(pid_in(tmp_path / "pid"))


async def test_a_job_survives_its_agent_killed_together_with_the_spawner(
    harness: AgentHarness, tmp_path: Path
) -> None:
    spawner = harness.agent._driver.__dict__["_spawner"]
    os.kill(spawner._process.pid, signal.SIGKILL)
    await eventually(lambda: not alive(spawner._process.pid))
    assert (await harness.run("echo hi")).result is Result.PASSED


async def test_two_agents_do_not_share_a_folder(harness: AgentHarness) -> None:
    other = harness._agent()
    with pytest.raises(FolderInUse):
        await other.start()
