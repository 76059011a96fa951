"""A job outlives its agent, is started exactly once, and is never forgotten."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from boxsched.errors import StoreAway
from boxsched.model import JobId
from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result
from boxsched.worker.agent import remains
from boxsched.worker.agent.attempt_folder import AttemptFolder
from boxsched.worker.agent.plan import Worksite, attempt_name, plan
from boxsched.worker.agent.preparing import make_attempt
from boxsched.worker.agent.site import KEPT_QUARANTINED, FolderInUse, adopt_all, boot_id
from boxsched.worker.supervisor import containment, job_secrets, safe_files, supervisor
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.folder import Record, Started
from tests.worker.harness import AgentHarness, alive, assigned, at, eventually, job, pid_in

PROJECT = Path(__file__).resolve().parents[2]
WAIT = "while :; do sleep 0.05; done"


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


async def test_an_agent_killed_together_with_its_spawner(
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


# --- Folders that an earlier agent left -----------------------------------------------------


def prepared(
    harness: AgentHarness, *commands: str, boot: str | None = None, cluster: str = ""
) -> Path:
    """Prepare the folder of an agent that died between record and start."""
    harness.folder.mkdir(parents=True, exist_ok=True)
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    where = Worksite(str(harness.folder), at(harness.folder), cluster, boot, 1 << 20, None, 10.0)
    wanted = assigned(1, *commands)
    record, script, _ = plan(wanted, where)
    folder = harness.folder / attempt_name(wanted)
    make_attempt(AttemptFolder(at(harness.folder), str(folder)), record, script).close()
    return folder


_FOREIGN = """
import os, signal, sys
from boxsched.worker.supervisor import supervisor
signal.signal(signal.SIGUSR1, lambda number, frame: None)
site, name = os.path.split(sys.argv[1])
supervisor.supervise(os.open(site, os.O_RDONLY), site, name)
"""


async def test_a_job_that_an_earlier_spawner_starts_at_the_last_moment(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    """The agent found that it never started, and requests it; by then it has another supervisor,
    whose end its own spawner does not see."""
    harness = make_harness()
    gate = tmp_path / "gate"
    script = f"until [ -e {gate} ]; do sleep 0.02; done; exit 5"
    folder = prepared(harness, script)
    await harness.agent.start()
    command = [sys.executable, "-c", _FOREIGN, folder]
    foreign = subprocess.Popen(command, cwd=PROJECT)  # noqa: ASYNC220 -- nobody waits for it
    await eventually((folder / files.RUNNING).exists)
    await harness.agent.reconcile([assigned(1, script), assigned(2, "true", ordinal=2)])
    # the spawner works in order: it has reported that the first belongs to another
    await harness.end(2)
    assert harness.store.finished(1) is None
    gate.touch()
    assert (await harness.end(1)).exit_status == 5
    foreign.wait()


async def test_a_stop_of_a_job_that_an_earlier_spawner_starts_at_the_last_moment(
    make_harness: Callable[..., AgentHarness],
) -> None:
    """It seemed never to have started, and can no longer be cancelled."""
    harness = make_harness()
    folder = prepared(harness, WAIT)
    await harness.agent.start()
    command = [sys.executable, "-c", _FOREIGN, folder]
    foreign = subprocess.Popen(command, cwd=PROJECT)  # noqa: ASYNC220 -- nobody waits for it
    await eventually((folder / files.RUNNING).exists)
    await harness.agent.reconcile([assigned(1, WAIT, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    foreign.wait()


async def test_a_repeated_request_during_a_run_starts_no_second_supervisor(
    harness: AgentHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spawner = harness.agent._driver.__dict__["_spawner"]
    told: list[tuple[str, int]] = []
    real = spawner._ended

    def ended(name: str, status: int) -> None:
        told.append((name, status))
        real(name, status)

    monkeypatch.setattr(spawner, "_ended", ended)
    script = f"echo began; until [ -e {tmp_path}/gate ]; do sleep 0.01; done"
    await harness.agent.reconcile([assigned(1, script)])
    await harness.said(1, b"began")
    spawner.ask("w1-1-1")
    await harness.agent.reconcile([assigned(1, script), assigned(2, "true", ordinal=2)])
    await harness.end(2)
    (tmp_path / "gate").touch()
    await harness.end(1)
    assert told == [("w2-1-1", 0), ("w1-1-1", 0)]


async def test_a_job_never_started_and_still_desired(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness()
    prepared(harness, "echo now")
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, "echo now")])
    assert (await harness.end(1)).result is Result.PASSED
    assert harness.log() == b"now\n"


async def test_a_job_never_started_and_to_be_stopped(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness()
    prepared(harness, f"touch {tmp_path}/ran")
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    assert not (tmp_path / "ran").exists()


async def test_a_job_never_started_and_no_longer_desired(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness()
    prepared(harness, f"touch {tmp_path}/ran")
    await harness.agent.start()
    await harness.agent.reconcile([])
    await eventually(lambda: not list(harness.folder.glob("w*")))
    assert not (tmp_path / "ran").exists()


async def test_a_late_fork_of_an_old_spawner_finds_nothing_to_do(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness()
    script = f"echo ran >> {tmp_path}/ledger"
    prepared(harness, script)
    await harness.agent.start()
    spawner = harness.agent._driver.__dict__["_spawner"]
    for _ in range(20):
        spawner.ask("w1-1-1")
    await harness.agent.reconcile([assigned(1, script)])
    assert (await harness.end(1)).result is Result.PASSED
    spawner.ask("w1-1-1")
    await harness.agent.reconcile([assigned(1, script), assigned(2, "true")])
    await harness.end(2)  # the spawner works in order: it has passed the late request
    assert (tmp_path / "ledger").read_text() == "ran\n"


async def test_a_record_of_another_boot_is_lost(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness()
    prepared(harness, f"touch {tmp_path}/ran", boot="another")
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, f"touch {tmp_path}/ran")])
    finished = await harness.end(1)
    assert (finished.result, finished.reason) == (
        Result.FAILED,
        "lost: the machine was restarted",
    )
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["torn", "empty", "garbage", "missing", "flipped"])
async def test_a_damaged_record_is_set_aside(
    make_harness: Callable[..., AgentHarness], tmp_path: Path, damage: str
) -> None:
    harness = make_harness()
    folder = prepared(harness, f"touch {tmp_path}/ran")
    record = folder / files.RECORD
    whole = record.read_bytes()
    secrets = [
        folder / job_secrets.FILE_NAME,
        folder / files.BOX / job_secrets.FILES_FOLDER / "KEY",
    ]
    for secret in secrets:
        secret.parent.mkdir(parents=True, exist_ok=True)
        secret.write_text("canary")
    if damage == "missing":
        record.unlink()
        (folder / files.TICKET).rename(folder / files.STARTED)
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        damaged = {"torn": whole[:middle], "empty": b"", "garbage": b"\xff" * 99}
        record.write_bytes(damaged.get(damage, flipped))
    await harness.agent.start()
    desired = [assigned(1, f"touch {tmp_path}/ran")]
    await harness.agent.reconcile(desired)
    finished = await harness.end(1)
    assert finished.result is Result.FAILED
    assert finished.reason is not None
    assert finished.reason.startswith("lost: the record")
    assert (harness.folder / "quarantine/w1-1-1").is_dir()
    assert not [path for path in harness.folder.rglob("*") if path.name in ("KEY", secrets[0].name)]
    assert not (tmp_path / "ran").exists()
    await harness.restart()
    await harness.agent.reconcile(desired)  # it is still known
    assert not list(harness.folder.glob("w*"))


async def test_only_the_newest_in_quarantine_are_kept(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness()
    for number in range(KEPT_QUARANTINED + 3):
        old = harness.folder / f"quarantine/w{number + 2}-1-1"
        old.mkdir(parents=True)
        os.utime(old, (number, number))
    folder = prepared(harness, "true")
    (folder / files.RECORD).write_bytes(b"torn")
    await harness.agent.start()
    kept = {path.name for path in (harness.folder / "quarantine").iterdir()}
    assert "w1-1-1" in kept and len(kept) == KEPT_QUARANTINED
    assert not kept & {f"w{number}-1-1" for number in range(2, 6)}  # the oldest


async def test_a_running_job_with_a_damaged_record_is_ended(
    harness: AgentHarness, tmp_path: Path
) -> None:
    await harness.agent.reconcile(
        [assigned(1, f"echo $$ > {tmp_path}/pid; echo ready; while :; do sleep 0.05; done")]
    )
    await harness.said(1, b"ready")
    (harness.folder / "w1-1-1" / files.RECORD).write_bytes(b"torn")
    await harness.restart()
    assert not alive(pid_in(tmp_path / "pid"))


async def test_another_installations_record_is_set_aside(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(cluster="ours")
    prepared(harness, "true", cluster="theirs")
    await harness.agent.start()
    assert (harness.folder / "quarantine/w1-1-1").is_dir()


async def test_a_half_made_folder_is_removed(make_harness: Callable[..., AgentHarness]) -> None:
    harness = make_harness()
    (prepared(harness, "true") / files.RECORD).unlink()
    await harness.agent.start()
    assert not list(harness.folder.glob("quarantine/*"))
    await harness.agent.reconcile([assigned(1, "echo anew")])
    assert (await harness.end(1)).result is Result.PASSED


async def test_an_unreported_result_is_reported(make_harness: Callable[..., AgentHarness]) -> None:
    harness = make_harness()
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, "echo hi; exit 4")])
    await harness.agent.close()
    await eventually((harness.folder / "w1-1-1/result").exists)
    harness.store.reports.clear()
    harness.agent = harness._agent()
    await harness.agent.start()
    assert (await harness.end(1)).exit_status == 4
    assert harness.store.log_of(job(1)) == b"hi\n"


@pytest.mark.parametrize("other", [{}, {"ordinal": 2}, {"attempt": 2, "ordinal": 2}])
async def test_an_attempt_with_a_new_token_starts_once_the_old_attempt_has_ended(
    harness: AgentHarness, tmp_path: Path, other: dict[str, int]
) -> None:
    """Also on another Box, and with its own folder."""
    gate = tmp_path / "gate"
    script = f"trap 'until [ -e {gate} ]; do sleep 0.01; done; exit' TERM; echo old; {WAIT}"
    old = assigned(1, script)
    await harness.agent.reconcile([old])
    await harness.said(1, b"old")
    new = attrs.evolve(old, lease_token=9, commands=(f"echo new > {tmp_path}/new",), **other)
    await harness.agent.reconcile([new, assigned(2, "true", ordinal=3)])
    await harness.end(2)
    await harness.agent.reconcile([new, assigned(3, "true", ordinal=3)])
    await harness.end(3)
    assert not (tmp_path / "new").exists()
    gate.touch()
    await harness.store.until(lambda: ends(harness)[-1][0] == 9)
    assert ends(harness)[-2:] == [(1, Result.STOPPED), (9, Result.PASSED)]


async def test_an_attempt_with_a_new_token_takes_no_folder_whose_end_is_unknown(
    harness: AgentHarness, tmp_path: Path
) -> None:
    old = assigned(1, f"until [ -e {tmp_path}/gate ]; do sleep 0.01; done")
    await harness.agent.reconcile([old])
    await harness.store.until(lambda: harness.store.started(1))
    harness.store.away = StoreAway("away")
    (tmp_path / "gate").touch()
    attempt = harness.agent._driver.__dict__["_attempts"][old.job, 1]
    await eventually(lambda: attempt.ended)
    assert harness.agent.holds == ((old.job, 1),), "until its end is known"
    new = attrs.evolve(old, lease_token=9)
    await harness.agent.reconcile([new])
    assert safe_files.exists(attempt.folder.at, files.RESULT)
    assert (harness.folder / "w1-1-1/result").exists()
    harness.store.away = None
    await harness.store.until(lambda: ends(harness)[-1:] == [(9, Result.PASSED)])
    assert ends(harness) == [(1, Result.PASSED), (9, Result.PASSED)]


async def test_another_attempt_starts_before_the_end_of_the_first_is_stored(
    harness: AgentHarness, tmp_path: Path
) -> None:
    old = assigned(1, f"until [ -e {tmp_path}/gate ]; do sleep 0.01; done")
    await harness.agent.reconcile([old])
    await harness.store.until(lambda: harness.store.started(1))
    harness.store.away = StoreAway("away")
    (tmp_path / "gate").touch()
    attempt = harness.agent._driver.__dict__["_attempts"][old.job, 1]
    await eventually(lambda: attempt.ended)
    new = attrs.evolve(old, attempt=2, lease_token=9, commands=(f"touch {tmp_path}/ran",))
    await harness.agent.reconcile([new])
    await eventually((tmp_path / "ran").exists)
    assert ends(harness) == []
    harness.store.away = None
    await harness.store.until(lambda: len(ends(harness)) == 2)
    assert ends(harness) == [(1, Result.PASSED), (9, Result.PASSED)]


def ends(harness: AgentHarness) -> list[tuple[int, Result]]:
    said = [one for one in harness.store.reports if isinstance(one, JobFinished)]
    return [(one.lease_token, one.result) for one in said]


# --- A pid that another process has by now --------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process
        process.kill()


def start_time(process: subprocess.Popen[bytes]) -> int:
    ticks = containment.start_time(process.pid)
    assert ticks is not None
    return ticks


def test_a_process_with_a_dead_supervisors_pid_is_not_killed(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    ticks = start_time(stranger)
    remains.end_processes(str(tmp_path), Started(stranger.pid, ticks - 1), None)
    remains.end_processes(str(tmp_path), Started(stranger.pid, None), None)
    assert alive(stranger.pid)
    remains.end_processes(str(tmp_path), Started(stranger.pid, ticks), None)
    assert stranger.wait(60) == -signal.SIGKILL


@pytest.mark.parametrize("reused", [True, False])
def test_a_process_with_a_dead_supervisors_pid_gets_no_stop_signal(
    make_harness: Callable[..., AgentHarness], stranger: subprocess.Popen[bytes], reused: bool
) -> None:
    harness = make_harness()
    folder = prepared(harness, "true")
    started = Started(stranger.pid, start_time(stranger) - reused)
    files.put(at(folder), files.TICKET, files.STARTED, started)
    where = Worksite(str(harness.folder), at(harness.folder), "", boot_id(), 1 << 20, None, 10.0)
    (attempt,), _ = adopt_all(where)
    attempt.look()
    attempt.stop(1.0, "stopped")
    if reused:
        assert attempt.process is None
        assert alive(stranger.pid)
    else:
        assert stranger.wait(60) == -signal.SIGUSR1
    attempt.close()
    shutil.rmtree(folder)


def test_a_supervisor_leaves_an_attempt_whose_ticket_was_taken_meanwhile(
    make_harness: Callable[..., AgentHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It starts nothing, and its exit does not count as the end of the job."""
    harness = make_harness()
    folder = prepared(harness, "true")
    read = files.read_record

    def voided(attempt: int) -> Record:
        safe_files.rename(attempt, files.TICKET, files.VOID)
        return read(attempt)

    monkeypatch.setattr(supervisor.files, "read_record", voided)
    assert supervisor.supervise(at(harness.folder), str(harness.folder), folder.name) is False
    assert not (folder / files.STARTED).exists()
    assert not (folder / files.RESULT).exists()
    shutil.rmtree(folder)
