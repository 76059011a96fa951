"""Whatever happens to one job's folder, or runs out, neither stops the agent nor the others."""

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
from tests.worker.site import Site, alive, assigned, at, eventually, pid_in
from tests.worker.test_restart import PROJECT, prepared

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
    make_site: Callable[..., Site],
) -> None:
    site = make_site(log_limit=100_000)
    await site.agent.start()
    finished = await site.run("echo ready; truncate -s 3T ../../log; exit 4")
    assert finished.exit_status == 4
    assert 100_000 <= len(site.log()) <= 110_000


async def test_a_log_that_was_cut_ends_where_it_was(site: Site) -> None:
    script = "echo ready; until [ -s ../../sent ]; do sleep 0.01; done; sleep 0.3"
    finished = await site.run(f"{script}; echo more; : > ../../log")
    assert finished.result is Result.PASSED


# --- Files that are not ours ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ODD)
def test_a_note_that_is_not_a_file_of_ours_is_damaged(tmp_path: Path, kind: str) -> None:
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    put_odd(tmp_path / files.RESULT, kind)
    with pytest.raises(Damaged):
        note(at(tmp_path), files.RESULT, Ended)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", [files.RESULT, files.RUNNING, files.STARTED])
async def test_a_job_that_puts_something_odd_harms_itself_at_most(
    site: Site, tmp_path: Path, name: str, kind: str
) -> None:
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    bad = assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)
    await site.agent.reconcile([bad])
    await site.said(1, b"ready")
    if name == files.STARTED:
        await site.agent.close()  # else it has been read
    put_odd(site.folder / "w1-1-1" / name, kind)
    if name == files.STARTED:
        site.agent = site._agent()
        await site.agent.start()
    await site.agent.reconcile([bad, assigned(2, "echo fine")])
    assert (await site.end(2)).result is Result.PASSED
    assert site.store.finished(1) is None and alive(pid_in(tmp_path / "pid")), "it goes on"
    site.agent._driver.__dict__["_stop_grace"] = 0.0
    await site.agent.reconcile([attrs.evolve(bad, stop=True)])
    finished = await site.end(1)
    assert not alive(pid_in(tmp_path / "pid"))
    if name == files.RESULT and kind == "folder":  # nothing takes its place
        assert (finished.result, finished.reason) == (Result.FAILED, LOST)
    else:
        assert finished.result is Result.STOPPED


@pytest.mark.parametrize("name", [files.LOG, files.SENT, files.LOCK, files.RECORD])
async def test_a_pipe_in_place_of_a_file_does_not_delay_a_restart(
    site: Site, tmp_path: Path, name: str
) -> None:
    await site.agent.reconcile([assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)])
    await site.said(1, b"ready")
    put_odd(site.folder / "w1-1-1" / name, "fifo")
    await site.restart()
    assert not alive(pid_in(tmp_path / "pid"))
    await site.agent.reconcile([assigned(1, WAIT, started=True)])
    assert (await site.end(1)).result is Result.FAILED


async def test_a_stop_that_cannot_be_written_loses_the_job(site: Site, tmp_path: Path) -> None:
    await site.agent.reconcile([assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)])
    await site.said(1, b"ready")
    put_odd(site.folder / "w1-1-1" / (files.STOP + files.RESERVED), "fifo")
    await site.agent.reconcile([assigned(1, WAIT, stop=True), assigned(2, "true")])
    assert (await site.end(2)).result is Result.PASSED
    assert (await site.end(1)).result is Result.FAILED
    assert not alive(pid_in(tmp_path / "pid"))


# --- Folders that are gone ------------------------------------------------------------------


@pytest.mark.parametrize("stop", [False, True])
async def test_a_started_attempt_is_not_started_again(
    site: Site, tmp_path: Path, stop: bool
) -> None:
    desired = [assigned(1, f"touch {tmp_path}/ran", started=True, stop=stop)]
    await site.agent.reconcile(desired)
    finished = await site.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, "lost: its record is gone")
    await site.agent.reconcile(desired)
    assert len(site.store.reports) == 1
    assert not (tmp_path / "ran").exists()


async def test_a_folder_removed_while_no_agent_looked(site: Site, tmp_path: Path) -> None:
    script = f"echo $$ > {tmp_path}/pid; {WAIT}"
    await site.agent.reconcile([assigned(1, script)])
    await site.said(1, b"ready")
    await site.agent.close()
    shutil.rmtree(site.folder / "w1-1-1")
    site.agent = site._agent()
    await site.agent.start()
    await site.agent.reconcile([assigned(1, script, started=True)])
    finished = await site.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, "lost: its record is gone")
    assert not alive(pid_in(tmp_path / "pid"))


async def test_a_folder_removed_under_a_running_job(site: Site, tmp_path: Path) -> None:
    bad = assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)
    other = assigned(2, WAIT)
    await site.agent.reconcile([bad, other])
    await site.said(1, b"ready")
    await site.said(2, b"ready")
    shutil.rmtree(site.folder / "w1-1-1")
    finished = await site.end(1)
    assert (finished.result, finished.reason) == (Result.FAILED, "lost: its record is gone")
    await eventually(lambda: not alive(pid_in(tmp_path / "pid")))
    await site.agent.reconcile([other])
    assert site.store.finished(2) is None


async def test_a_folder_removed_after_the_end(site: Site) -> None:
    await site.run("true")
    await eventually(lambda: not list((site.folder / "w1-1-1").glob("box*")))
    shutil.rmtree(site.folder / "w1-1-1", ignore_errors=True)
    await site.agent.reconcile([])
    await site.agent.reconcile([assigned(2, "true")])
    assert (await site.end(2)).result is Result.PASSED


# --- What runs out --------------------------------------------------------------------------


class Failing:
    """Raises ``number`` in place of a method, as often as told."""

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
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    owner: type,
    name: str,
    number: int,
) -> None:
    failing = Failing(monkeypatch, owner, name, number)
    assert (await site.run("echo hi")).result is Result.PASSED
    assert failing.left == 0
    assert site.log() == b"hi\n"
    assert len([1 for record in caplog.records if "trying again" in record.message]) == 1


async def test_no_descriptor_for_a_new_job_is_not_a_failure_of_the_job(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch, Spool, "open", errno.EMFILE)
    assert (await site.run("echo hi")).result is Result.PASSED
    assert failing.left == 0


async def test_a_stop_is_tried_again(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    await site.agent.reconcile([assigned(1, WAIT)])
    await site.said(1, b"ready")
    failing = Failing(monkeypatch, Attempt, "stop", errno.ENFILE)
    await site.agent.reconcile([assigned(1, WAIT, stop=True)])
    assert (await site.end(1)).result is Result.STOPPED
    assert failing.left == 0


async def test_no_descriptor_at_a_restart_kills_nothing(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await site.agent.reconcile([assigned(1, f"echo $$ > {tmp_path}/pid", WAIT)])
    await site.said(1, b"ready")
    await site.agent.close()
    failing = Failing(monkeypatch, Spool, "open", errno.EMFILE)
    site.agent = site._agent()
    with pytest.raises(OSError, match="Too many open files"):
        await site.agent.start()
    failing.left = 0
    assert alive(pid_in(tmp_path / "pid"))
    await site.agent.start()  # what the failed one took is free
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


async def test_the_agent_takes_all_descriptors_and_its_jobs_as_many_as_before(
    low_limit: int, make_site: Callable[..., Site]
) -> None:
    site = make_site()
    await site.agent.start()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == hard
    await site.run("ulimit -Sn; ulimit -Hn")
    assert site.log() == b"%d\n%d\n" % (low_limit, hard)


# --- Starts that fail, and the other driver -------------------------------------------------


async def test_closing_what_never_started(tmp_path: Path) -> None:
    await Site(tmp_path / "worker").agent.close()


async def test_closing_what_could_not_start(site: Site) -> None:
    other = site._agent()
    with pytest.raises(FolderInUse):
        await other.start()
    await other.close()
    assert (await site.run("true")).result is Result.PASSED


async def test_a_failed_start_releases_what_it_took(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site()
    before = len(os.listdir("/proc/self/fd"))
    failing = Failing(monkeypatch, Spawner, "start", errno.EAGAIN)
    with pytest.raises(BlockingIOError):
        await site.agent.start()
    assert len(os.listdir("/proc/self/fd")) == before
    failing.left = 0
    await site.agent.start()
    assert (await site.run("true")).result is Result.PASSED


async def test_none_refuses_a_folder_with_jobs(make_site: Callable[..., Site]) -> None:
    site = make_site(cluster="ours")
    await site.agent.start()
    await site.agent.reconcile([assigned(1, WAIT)])
    await site.said(1, b"ready")
    await site.agent.close()
    none = Site(site.folder, driver="none", cluster="ours")
    with pytest.raises(JobsLeftBehind, match=r"w1-1-1.*run with the process driver until"):
        await none.agent.start()
    await none.agent.close()
    await site.agent.start()
    await site.agent.reconcile([])
    await site.end(1)
    await eventually(lambda: not list(site.folder.glob("w*")))
    await none.agent.start()


async def test_none_minds_no_other_installations_jobs(make_site: Callable[..., Site]) -> None:
    site = make_site(driver="none", cluster="ours")
    prepared(site, "true", cluster="theirs")
    await site.agent.start()


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
os.wait()  # for the child that removes the job's files
"""


def test_a_clock_that_is_set_does_not_change_a_duration(make_site: Callable[..., Site]) -> None:
    folder = prepared(make_site(), "sleep 0.3")
    before = boottime()
    subprocess.run([sys.executable, "-c", _SET_BACK, folder], cwd=PROJECT, check=True)
    ended = note(at(folder), files.RESULT, Ended)
    assert ended is not None
    assert ended.began_at is not None
    assert 0 <= ended.at - ended.began_at < boottime() - before
    shutil.rmtree(folder)
