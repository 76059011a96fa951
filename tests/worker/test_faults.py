"""Damaged folders and exhausted resources of one job stop neither the agent nor other jobs."""

import errno
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from boxsched.states import Result
from boxsched.worker.agent.attempt import LOST, Attempt
from boxsched.worker.agent.forking import Spawner
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.site import FolderInUse, JobsLeftBehind
from boxsched.worker.agent.spool import Spool
from boxsched.worker.supervisor import descriptors
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.folder import Ended
from boxsched.worker.supervisor.last_heartbeat import boottime
from boxsched.worker.supervisor.safe_files import Damaged
from tests.worker.harness import AgentHarness, alive, assigned, at, eventually, pid_in, prepared
from tests.worker.test_restart import PROJECT

WAIT = "echo ready; while :; do sleep 0.05; done"
ODD = ["fifo", "link", "device", "folder", "large"]


def put_odd(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    elif kind == "device":
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero
    elif kind == "folder":
        path.mkdir()
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)


# --- What a job does to its own log ---------------------------------------------------------


async def test_a_stretched_log_is_not_sent_further_than_its_limit(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(log_limit=100_000)
    await harness.agent.start()
    finished = await harness.run("echo ready; truncate -s 3T ../../log; exit 4")
    assert finished.exit_status == 4
    assert 100_000 <= len(harness.log()) <= 210_000  # its end, too


async def test_a_log_that_was_cut_ends_where_it_was(harness: AgentHarness) -> None:
    script = "echo ready; until [ -s ../../sent ]; do sleep 0.01; done; sleep 0.3"
    finished = await harness.run(f"{script}; echo more; : > ../../log")
    assert finished.result is Result.PASSED


# --- Files that are not ours ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ODD)
def test_a_note_that_is_not_a_regular_file_is_damaged(tmp_path: Path, kind: str) -> None:
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    put_odd(tmp_path / files.RESULT, kind)
    with pytest.raises(Damaged):
        note(at(tmp_path), files.RESULT, Ended)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", [files.RESULT, files.RUNNING, files.STARTED])
async def test_a_job_that_writes_odd_files_harms_only_itself(
    harness: AgentHarness, tmp_path: Path, name: str, kind: str
) -> None:
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    bad = assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)
    await harness.agent.reconcile([bad])
    await harness.said(1, b"ready")
    if name == files.STARTED:
        await harness.agent.close()  # otherwise it has been read
    put_odd(harness.folder / "w1-1-1" / name, kind)
    if name == files.STARTED:
        harness.agent = harness._agent()
        await harness.agent.start()
    await harness.agent.reconcile([bad, assigned(2, "echo fine")])
    assert (await harness.end(2)).result is Result.PASSED
    assert harness.store.finished(1) is None and alive(pid_in(tmp_path / "pid")), "it goes on"
    harness.agent._driver.__dict__["_stop_grace"] = 0.0
    await harness.agent.reconcile([attrs.evolve(bad, stop=True)])
    finished = await harness.end(1)
    assert not alive(pid_in(tmp_path / "pid"))
    if name == files.RESULT and kind == "folder":  # nothing replaces it
        assert (finished.result, finished.reason) == (Result.FAILED, LOST)
    else:
        assert finished.result is Result.STOPPED


@pytest.mark.parametrize("name", [files.LOG, files.SENT, files.LOCK, files.RECORD])
async def test_a_pipe_in_place_of_a_file_does_not_delay_a_restart(
    harness: AgentHarness, tmp_path: Path, name: str
) -> None:
    await harness.agent.reconcile([assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)])
    await harness.said(1, b"ready")
    put_odd(harness.folder / "w1-1-1" / name, "fifo")
    await harness.restart()
    assert not alive(pid_in(tmp_path / "pid"))
    await harness.agent.reconcile([assigned(1, WAIT, started=True)])
    assert (await harness.end(1)).result is Result.FAILED


async def test_a_stop_that_cannot_be_written_loses_the_job(
    harness: AgentHarness, tmp_path: Path
) -> None:
    await harness.agent.reconcile([assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)])
    await harness.said(1, b"ready")
    put_odd(harness.folder / "w1-1-1" / (files.STOP + files.RESERVED), "fifo")
    await harness.agent.reconcile([assigned(1, WAIT, stop=True), assigned(2, "true")])
    assert (await harness.end(2)).result is Result.PASSED
    assert (await harness.end(1)).result is Result.FAILED
    assert not alive(pid_in(tmp_path / "pid"))


# --- Removed folders ----------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [False, True])
async def test_a_started_attempt_is_not_started_again(
    harness: AgentHarness, tmp_path: Path, stop: bool
) -> None:
    desired = [assigned(1, f"touch {tmp_path}/ran", started=True, stop=stop)]
    await harness.agent.reconcile(desired)
    finished = await harness.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, "lost: its record is gone")
    await harness.agent.reconcile(desired)
    assert len(harness.store.reports) == 1
    assert not (tmp_path / "ran").exists()


async def test_a_folder_removed_while_no_agent_was_running_loses_the_job(
    harness: AgentHarness, tmp_path: Path
) -> None:
    script = f"echo $$ > {tmp_path}/pid; {WAIT}"
    await harness.agent.reconcile([assigned(1, script)])
    await harness.said(1, b"ready")
    await harness.agent.close()
    shutil.rmtree(harness.folder / "w1-1-1")
    harness.agent = harness._agent()
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, script, started=True)])
    finished = await harness.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, "lost: its record is gone")
    assert not alive(pid_in(tmp_path / "pid"))


async def test_a_folder_removed_under_a_running_job_loses_the_job(
    harness: AgentHarness, tmp_path: Path
) -> None:
    bad = assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)
    other = assigned(2, WAIT)
    await harness.agent.reconcile([bad, other])
    await harness.said(1, b"ready")
    await harness.said(2, b"ready")
    shutil.rmtree(harness.folder / "w1-1-1")
    finished = await harness.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, "lost: its record is gone")
    await eventually(lambda: not alive(pid_in(tmp_path / "pid")))
    await harness.agent.reconcile([other])
    assert harness.store.finished(2) is None


async def test_a_folder_removed_after_the_end_changes_nothing(harness: AgentHarness) -> None:
    await harness.run("true")
    await eventually(lambda: not list((harness.folder / "w1-1-1").glob("box*")))
    shutil.rmtree(harness.folder / "w1-1-1", ignore_errors=True)
    await harness.agent.reconcile([])
    await harness.agent.reconcile([assigned(2, "true")])
    assert (await harness.end(2)).result is Result.PASSED


# --- Exhausted resources ------------------------------------------------------------------------


class Failing:
    """Raise ``number`` in place of a method, this many times."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, name: str, number: int) -> None:
        self.left = 3
        real = getattr(owner, name)

        def fails(*args: object, **more: object) -> object:
            if self.left:
                self.left -= 1
                raise OSError(number, os.strerror(number))
            return real(*args, **more)

        patch.setattr(owner, name, fails)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(
    ("owner", "name"), [(Attempt, "look"), (Attempt, "next_chunk"), (Spawner, "ask")]
)
async def test_jobs_are_retried_when_resources_ran_out(
    harness: AgentHarness,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    name: str,
    number: int,
) -> None:
    failing = Failing(monkeypatch, owner, name, number)
    assert (await harness.run("echo hi")).result is Result.PASSED
    assert failing.left == 0
    assert harness.log() == b"hi\n"
    assert len([1 for record in caplog.records if "trying again" in record.message]) == 1


async def test_a_lack_of_descriptors_for_a_new_job_is_not_the_jobs_failure(
    harness: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch, Spool, "open", errno.EMFILE)
    assert (await harness.run("echo hi")).result is Result.PASSED
    assert failing.left == 0


async def test_a_stop_is_tried_again(
    harness: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.agent.reconcile([assigned(1, WAIT)])
    await harness.said(1, b"ready")
    failing = Failing(monkeypatch, Attempt, "stop", errno.ENFILE)
    await harness.agent.reconcile([assigned(1, WAIT, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    assert failing.left == 0


async def test_a_lack_of_descriptors_at_a_restart_kills_nothing(
    harness: AgentHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await harness.agent.reconcile([assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)])
    await harness.said(1, b"ready")
    await harness.agent.close()
    failing = Failing(monkeypatch, Spool, "open", errno.EMFILE)
    harness.agent = harness._agent()
    with pytest.raises(OSError, match="Too many open files"):
        await harness.agent.start()
    failing.left = 0
    assert alive(pid_in(tmp_path / "pid"))
    await harness.agent.start()  # the descriptors of the failed agent are free
    assert alive(pid_in(tmp_path / "pid"))


@pytest.fixture
def low_limit() -> Iterator[int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    low = min(soft, hard) - 100
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, hard))
    descriptors.raise_limit.cache_clear()
    yield low
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    descriptors.raise_limit.cache_clear()


async def test_the_agent_uses_all_descriptors_and_its_jobs_the_usual_number(
    low_limit: int, make_harness: Callable[..., AgentHarness]
) -> None:
    harness = make_harness()
    await harness.agent.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
    await harness.run("ulimit -Sn; ulimit -Hn")
    assert harness.log() == b"%d\n%d\n" % (low_limit, hard)


# --- Starts that fail, and the other driver -------------------------------------------------


async def test_an_agent_that_never_started_can_be_closed(tmp_path: Path) -> None:
    await AgentHarness(tmp_path / "worker").agent.close()


async def test_an_agent_that_could_not_start_can_be_closed(harness: AgentHarness) -> None:
    other = harness._agent()
    with pytest.raises(FolderInUse):
        await other.start()
    await other.close()
    assert (await harness.run("true")).result is Result.PASSED


async def test_a_failed_start_releases_its_resources(
    make_harness: Callable[..., AgentHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    harness = make_harness()
    before = len(os.listdir("/proc/self/fd"))
    failing = Failing(monkeypatch, Spawner, "start", errno.EAGAIN)
    with pytest.raises(BlockingIOError):
        await harness.agent.start()
    assert len(os.listdir("/proc/self/fd")) == before
    failing.left = 0
    await harness.agent.start()
    assert (await harness.run("true")).result is Result.PASSED


async def test_the_driver_none_refuses_a_folder_with_jobs(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(cluster="ours")
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, WAIT)])
    await harness.said(1, b"ready")
    await harness.agent.close()
    none = AgentHarness(harness.folder, driver="none", cluster="ours")
    with pytest.raises(JobsLeftBehind, match=r"w1-1-1.*run with the process driver until"):
        await none.agent.start()
    await none.agent.close()
    await harness.agent.start()
    await harness.agent.reconcile([])
    await harness.end(1)
    await eventually(lambda: not list(harness.folder.glob("w*")))
    await none.agent.start()


async def test_the_driver_none_ignores_jobs_of_other_installations(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(driver="none", cluster="ours")
    prepared(harness, "true", cluster="theirs")
    await harness.agent.start()


# --- Clocks ---------------------------------------------------------------------------------

_SET_BACK = """
import os, sys, time
from boxsched.worker.supervisor import supervisor
real, calls = time.time, []
def wrong():
    calls.append(1)
    return real() - 3_600 * (len(calls) - 1)
time.time = wrong
site, name = os.path.split(sys.argv[1])
supervisor.supervise(os.open(site, os.O_RDONLY), site, name)
"""


def test_a_changed_clock_does_not_change_a_duration(
    make_harness: Callable[..., AgentHarness],
) -> None:
    folder = prepared(make_harness(), "sleep 0.3")
    before = boottime()
    subprocess.run([sys.executable, "-c", _SET_BACK, folder], cwd=PROJECT, check=True)
    ended = note(at(folder), files.RESULT, Ended)
    assert ended is not None
    assert ended.began_at is not None
    assert 0 <= ended.at - ended.began_at < boottime() - before
    shutil.rmtree(folder)
