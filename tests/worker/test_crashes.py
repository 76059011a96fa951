"""Crashes just before each change of a file: of an agent that prepares a job, and of a
supervisor."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.model import JobId, Kind
from boxsched.states import Result
from boxsched.worker.agent import attempt_watcher, forking
from boxsched.worker.agent.attempt import LOST, Attempt, Phase
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.occupancy import Occupancy
from boxsched.worker.agent.plan import Places, Worksite, job_environment
from boxsched.worker.agent.preparing import prepare
from boxsched.worker.agent.site import adopt_all, boot_id
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.joblog import BoundedLog
from boxsched.worker.supervisor.masking import Masks
from boxsched.worker.supervisor.output import Output
from boxsched.worker.supervisor.supervisor import supervise
from tests.worker import crash
from tests.worker.crash import Crash, Crashed
from tests.worker.harness import AgentHarness, alive, assigned, at, eventually, job, pid_in

PROJECT = Path(__file__).resolve().parents[2]
WANTED = assigned(1, "true")


def worksite(folder: Path) -> Worksite:
    folder.mkdir()
    return Worksite(str(folder), at(folder), "", boot_id(), 1 << 20, None, 10.0)


def prepared(site: Worksite) -> Attempt:
    attempt = prepare(WANTED, site, None)
    assert isinstance(attempt, Attempt)
    return attempt


# --- Preparing ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"environment": {"A": "x\0"}}, "its environment cannot have 'A'"),
        ({"environment": {"A": "\ud800"}}, "its environment cannot have 'A'"),
        ({"environment": {"\ud800": "x"}}, "its environment cannot have '\\ud800'"),
        ({"environment": {"": "x"}}, "its environment cannot have ''"),
        ({"environment": {"A=B": "x"}}, "its environment cannot have 'A=B'"),
        ({"commands": ("echo \ud800",)}, "its commands are not valid text"),
        ({"repository": "/x\ud800"}, "its branch, tag or repository is not valid text"),
        ({"repository": "/x\0"}, "its branch, tag or repository is not valid text"),
        ({"repository": "/x", "branch": "a\ud800"}, "cannot have 'BOXSCHED_BRANCH'"),
        ({"repository": "/x", "branch": "HEAD"}, "a branch cannot have the name HEAD"),
        ({"repository": "/x", "commit": "g" * 40}, "its commit is not a commit hash"),
        ({"refusal": "of the node"}, "of the node"),
        ({"kind": Kind.SSH}, "SSH sessions"),
    ],
)
def test_what_cannot_be_given_to_a_program_fails_the_job_with_a_reason(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    refused = prepare(attrs.evolve(WANTED, **changes), worksite(tmp_path / "site"), None)
    assert isinstance(refused, str) and why in refused
    assert not list((tmp_path / "site").iterdir()), "nothing is left of it"


def test_an_agent_may_die_at_each_change_of_preparing_a_job(tmp_path: Path) -> None:
    """The next agent finds nothing, or an attempt that can be started; never damage."""
    whole = worksite(tmp_path / "whole")
    with Crash().armed() as counting:
        prepared(whole).close()
    assert len(counting.done) > 20
    for number in range(1, len(counting.done) + 1):
        site = worksite(tmp_path / str(number))
        with Crash(number).armed(), pytest.raises(Crashed):
            prepare(WANTED, site, None)
        adopted, quarantined = adopt_all(site)
        assert quarantined == {}, counting.done[number - 1]
        if adopted:
            assert [attempt.phase for attempt in adopted] == [Phase.PREPARED]
            assert safe_files.exists(adopted[0].folder.at, files.SCRIPT)
        else:
            assert not safe_files.exists(site.at, "w1-1-1")
            adopted.append(prepared(site))
        assert sorted(os.listdir(adopted[0].folder.at)) == sorted(
            os.listdir(f"{whole.folder}/w1-1-1")
        )
        adopted[0].close()


def test_a_record_is_durable_before_it_has_its_name_and_before_anything_is_requested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power failure leaves what was synced: the record, its name, and its folder's name."""
    site = worksite(tmp_path / "site")
    synced: list[tuple[str, bool]] = []
    real = os.fsync

    def noted(descriptor: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        record = Path(site.folder) / "w1-1-1" / files.RECORD
        synced.append((name, record.exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    prepared(site).close()
    assert synced == [("record.new", False), ("w1-1-1", True), ("site", True)]


def test_an_incomplete_folder_does_no_harm(tmp_path: Path) -> None:
    """It was left behind when there were no free descriptors."""
    site = worksite(tmp_path / "site")
    (Path(site.folder) / "w1-1-1").mkdir()
    (Path(site.folder) / "w1-1-1" / files.SCRIPT).touch()
    attempt = prepared(site)
    assert files.read_record(attempt.folder.at).job == WANTED.job
    attempt.close()


def test_a_log_is_sent_again_with_the_chunk_borders_of_the_interrupted_sending(
    tmp_path: Path,
) -> None:
    attempt = prepared(worksite(tmp_path / "site"))
    with open(f"{attempt.folder.path}/{files.LOG}", "wb") as log:
        log.write(b"sent, under way, new")
    with open(f"{attempt.folder.path}/{files.SENT}", "r+b") as sent:
        sent.write(b"4 15\n")
    attempt.spool.go_on()
    assert attempt.spool.next() == (4, b", under way")
    assert not attempt.spool.all_stored
    attempt.spool.stored()
    assert attempt.spool.next() == (15, b", new")
    attempt.spool.stored()
    assert attempt.spool.all_stored
    attempt.close()


def test_an_unknown_box_may_be_any_box() -> None:
    """Nothing says on which Box an adopted attempt runs."""
    occupancy = Occupancy()
    other = assigned(2, ordinal=2)
    occupancy.note({(other.job, 2): other}, [])
    assert occupancy.held_up(WANTED, [(job(3), 3)])
    assert not occupancy.held_up(WANTED, [(job(2), 2)])
    assert occupancy.held_up(assigned(4, ordinal=2), [(job(2), 2)])


def test_a_deploy_gets_neither_branch_nor_tag() -> None:
    deploy = assigned(1, kind=Kind.DEPLOY, tag="v1", server="production")
    environment = job_environment(deploy, Places("/w/script", "/w/home", "/w/tmp"))
    assert environment["BOXSCHED_SERVER"] == "production"
    assert not {"BOXSCHED_BRANCH", "BOXSCHED_TAG"} & environment.keys()
    assert (
        job_environment(
            assigned(1, branch=None, tag="v1"), Places("/w/script", "/w/home", "/w/tmp")
        )["BOXSCHED_TAG"]
        == "v1"
    )


# --- A start after a cancellation ---------------------------------------------------------------


def voided(attempt: Attempt) -> bool:
    return attempt.void(files.Ended("stopped", None, None, False, "stopped", None, 1.5))


def test_a_start_after_the_cancellation_runs_nothing(tmp_path: Path) -> None:
    site = worksite(tmp_path / "site")
    attempt = prepared(site)
    assert voided(attempt)
    names = sorted(os.listdir(attempt.folder.at))
    assert supervise(site.at, site.folder, attempt.name) is False
    assert sorted(os.listdir(attempt.folder.at)) == names, "it changed something"
    assert attempt.phase is Phase.ENDED
    attempt.close()
    (adopted,), _ = adopt_all(site)
    adopted.look()
    assert adopted.gone, "the lock is free"
    adopted.close()


@pytest.mark.parametrize("taken", ["lock", "ticket"])
def test_a_cancellation_after_the_start_changes_nothing(tmp_path: Path, taken: str) -> None:
    attempt = prepared(worksite(tmp_path / "site"))
    held = safe_files.try_lock(attempt.folder.at, files.LOCK)
    assert held is not None
    if taken == "ticket":
        safe_files.rename(attempt.folder.at, files.TICKET, files.STARTED)
        os.close(held)
    assert not voided(attempt)
    assert attempt.phase is Phase.PREPARED
    assert not safe_files.exists(attempt.folder.at, files.VOID)
    assert not safe_files.exists(attempt.folder.at, files.RESULT)
    if taken == "lock":
        os.close(held)
    attempt.close()


# --- Attempts that lost their supervisor --------------------------------------------------------


@pytest.mark.parametrize("began_at", [None, 5e9])
def test_a_lost_attempt_ends_after_its_start_and_its_end_is_durable(
    tmp_path: Path, began_at: float | None
) -> None:
    """If its commands never started, a build may have another try. The clock was set back."""
    site = worksite(tmp_path / "site")
    first = prepared(site)
    files.put(first.folder.at, files.TICKET, files.STARTED, files.Started(1 << 30, 1))
    if began_at is not None:
        running = files.Running(began_at, False)
        files.put(first.folder.at, files.RUNNING + files.RESERVED, files.RUNNING, running)
    first.close()
    (attempt,), _ = adopt_all(site)
    attempt.supervisor_ended(0)
    assert not attempt.gone, "this agent's spawner has nothing to say of it"
    attempt.look()
    assert attempt.gone
    assert attempt.end_as_lost("lost: for a test", 7.0)
    ended = attempt.ended
    assert ended is not None
    assert (ended.result, ended.reason) == ("failed", "lost: for a test")
    assert (ended.at, ended.lost) == ((7.0, True) if began_at is None else (5e9, False))
    assert note(attempt.folder.at, files.RESULT, files.Ended) == ended
    attempt.close()


async def test_a_job_that_no_spawner_can_start_is_returned(
    make_harness: Callable[..., AgentHarness], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_watcher, "ASK_AGAIN_SECONDS", 0.01)
    asked: list[str] = []
    monkeypatch.setattr(forking.Spawner, "ask", lambda spawner, name: asked.append(name))
    harness = make_harness()
    await harness.agent.start()
    await harness.agent.reconcile([WANTED])
    finished = await harness.end(1)
    assert (finished.not_begun, finished.reason) == (True, "its supervisor could not be started")
    assert asked == ["w1-1-1"] * attempt_watcher.ASK_TIMES


# --- Supervising ----------------------------------------------------------------------------


async def test_a_supervisor_may_die_at_each_of_its_changes(
    make_harness: Callable[..., AgentHarness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before it has the ticket, another supervisor runs the job. After that the job is lost, and
    all its processes are gone before that is reported. It never runs twice."""
    monkeypatch.setattr(forking, "BOOT", crash.BOOT)
    monkeypatch.setattr(attempt_watcher, "ASK_AGAIN_SECONDS", 0.05)
    harness = make_harness()
    await harness.agent.start()
    results: list[Result] = []
    for number in range(1, 100):
        (tmp_path / crash.ORDER).write_text(str(number))
        ledger, pid = tmp_path / f"ledger-{number}", tmp_path / f"pid-{number}"
        script = f"echo ran >> {ledger}; sleep 100 & echo $! > {pid}; seq 300"
        await harness.agent.reconcile([assigned(number, script)])
        finished = await harness.end(number)
        started = note(at(harness.folder / f"w{number}-1-1"), files.STARTED, files.Started)
        assert started is not None and not alive(started.pid)
        assert not (pid.exists() and pid.read_text() and alive(pid_in(pid)))
        ran = ledger.read_text() if ledger.exists() else ""
        if finished.result is Result.PASSED:
            assert ran == "ran\n"
            assert harness.log(number) == b"".join(b"%d\n" % i for i in range(1, 301))
        else:
            assert (finished.result, finished.reason) == (Result.FAILED, LOST)
            assert ran in ("", "ran\n")
        results.append(finished.result)
        died = (tmp_path / f"{crash.ORDER}-w{number}-1-1").exists()
        if died and finished.result is Result.PASSED and Result.FAILED in results:
            break  # it made fewer changes than that
    await harness.agent.reconcile([])
    await eventually(lambda: not list(harness.folder.glob("w*")))
    began = results.index(Result.FAILED)
    assert began >= 1, "before it has the ticket nothing is lost"
    assert results == [Result.PASSED] * began + [Result.FAILED] * (len(results) - began - 1) + [
        Result.PASSED
    ]
    ends = [one for one in harness.store.reports if hasattr(one, "result")]
    assert [JobId(one.job) for one in ends] == [job(n) for n in range(1, len(results) + 1)]


_TRACED = """
import os, sys
from boxsched.worker.supervisor import output, supervision, supervisor
site, name = sys.argv[1:3]
real, descriptor = os.fsync, os.open(site, os.O_RDONLY)
def traced(number):
    path = os.readlink(f"/proc/self/fd/{number}")
    print(os.path.basename(path), os.path.exists(f"{site}/{name}/result"), flush=True)
    real(number)
os.fsync = traced
class Full(output.Output):
    def read(self):
        self.disk_full = True
        return super().read()
if sys.argv[3:]:
    supervision.Output = Full
supervisor.supervise(descriptor, site, name)
"""


def supervised(site: Worksite, *options: str) -> list[str]:
    """Return what was synced, and whether the result had its name by then."""
    command = [sys.executable, "-c", _TRACED, site.folder, "w1-1-1", *options]
    done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)
    return done.stdout.splitlines()


_PATIENT = """
import os, sys
from boxsched.worker.supervisor import supervision, supervisor
supervision.KILL_AGAIN_SECONDS = supervision.STOP_LOOK_SECONDS = 3_600.0
supervisor.supervise(os.open(sys.argv[1], os.O_RDONLY), *sys.argv[1:])
"""


def test_a_supervisor_does_not_wait_for_a_job_that_leaves_nothing_behind(tmp_path: Path) -> None:
    """It kills again only what is left, and the kernel tells it of a process that ended."""
    site = worksite(tmp_path / "site")
    prepared(site).close()
    command = [sys.executable, "-c", _PATIENT, site.folder, "w1-1-1"]
    subprocess.run(command, cwd=PROJECT, check=True, timeout=60)
    assert (Path(site.folder) / "w1-1-1" / files.RESULT).exists()


_COUNTED = """
import os, sys
from boxsched.worker.supervisor import supervision, supervisor
rounds, turn = [], supervision.Supervision._turn
supervision.STOP_LOOK_SECONDS = 0.2
def counted(self):
    rounds.append(1)
    turn(self)
supervision.Supervision._turn = counted
supervisor.supervise(os.open(sys.argv[1], os.O_RDONLY), *sys.argv[1:])
print(len(rounds))
"""


def test_a_supervisor_sleeps_between_its_looks_while_nothing_happens(tmp_path: Path) -> None:
    """Its first look is due after 0.2 s; the job takes a second."""
    site = worksite(tmp_path / "site")
    attempt = prepare(attrs.evolve(WANTED, commands=("sleep 1",)), site, None)
    assert isinstance(attempt, Attempt)
    attempt.close()
    command = [sys.executable, "-c", _COUNTED, site.folder, "w1-1-1"]
    done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 30


def test_log_and_result_are_durable_before_the_end_is_visible(tmp_path: Path) -> None:
    site = worksite(tmp_path / "site")
    prepared(site).close()
    assert supervised(site) == ["log False", "result.reserved False", "w1-1-1 True"]


@pytest.mark.parametrize("repository", [None, "/nowhere"])
def test_a_full_disk_before_the_script_is_not_the_jobs_failure(
    tmp_path: Path, repository: str | None
) -> None:
    site = worksite(tmp_path / "site")
    wanted = attrs.evolve(WANTED, repository=repository, commands=("echo x; sleep 60",))
    attempt = prepare(wanted, site, None)
    assert isinstance(attempt, Attempt)
    supervised(site, "full")
    ended = note(attempt.folder.at, files.RESULT, files.Ended)
    assert ended is not None
    assert (ended.reason, ended.not_begun) == (files.DISK_FULL, repository is not None)
    attempt.close()


def test_no_more_output_is_kept_than_the_limit(tmp_path: Path) -> None:
    safe_files.write_file(at(tmp_path), files.LOG, b"")
    output = Output(at(tmp_path), 1 << 20, Masks([]))
    output.keep_tail(4)
    for part in (b"one", b"two", b"three"):
        os.write(output.job_end, part)
        output.read()
    assert output.tail == b"hree"
    assert (tmp_path / files.LOG).read_bytes() == b"onetwothree"
    output.keep_tail(0)
    assert output.tail is None


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_ends_the_writing_of_a_log_but_not_its_supervisor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    output = failing(tmp_path, monkeypatch, number)
    output.note("x")
    assert output.disk_full
    os.write(output.job_end, b"more")
    assert output.read() == 4, "it is read, so that the job does not wait"
    output.finish()


def test_another_error_of_a_log_is_not_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = failing(tmp_path, monkeypatch, errno.EIO)
    os.write(output.job_end, b"text")
    for write in (output.read, output.finish, lambda: output.note("x")):
        with pytest.raises(OSError, match="Input/output error"):
            write()
    assert not output.disk_full


def failing(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> Output:
    """An output whose log cannot be written."""

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    for name in ("take", "note", "finish"):
        monkeypatch.setattr(BoundedLog, name, fail)
    safe_files.write_file(at(folder), files.LOG, b"")
    return Output(at(folder), 1 << 20, Masks([]))
