"""Supervisors that are dead: another process may have their pid, another attempt their ticket."""

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxsched.worker.agent import remains
from boxsched.worker.agent.plan import Worksite
from boxsched.worker.agent.site import adopt_all, boot_id
from boxsched.worker.supervisor import containment, safe_files, supervisor
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.folder import Record, Started
from tests.worker.harness import AgentHarness, alive, at, prepared

# --- Folders that an earlier agent left -----------------------------------------------------


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
