"""Folders that an earlier agent left: each attempt runs once, and every end is reported."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from boxsched.errors import StoreAway
from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result
from boxsched.worker.agent.site import KEPT_QUARANTINED
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import job_secrets, safe_files
from tests.worker.harness import (
    AgentHarness,
    alive,
    assigned,
    eventually,
    job,
    pid_in,
    prepared,
)

PROJECT = Path(__file__).resolve().parents[2]


WAIT = "while :; do sleep 0.05; done"


# --- Folders that an earlier agent left -----------------------------------------------------


_FOREIGN = """
import os, signal, sys
from boxsched.worker.supervisor import supervisor
signal.signal(signal.SIGUSR1, lambda number, frame: None)
site, name = os.path.split(sys.argv[1])
supervisor.supervise(os.open(site, os.O_RDONLY), site, name)
"""


async def test_a_job_that_an_earlier_spawner_starts_at_the_last_moment_runs_once(
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


async def test_a_job_that_never_started_and_is_desired_starts(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness()
    prepared(harness, "echo now")
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, "echo now")])
    assert (await harness.end(1)).result is Result.PASSED
    assert harness.log() == b"now\n"


async def test_a_job_that_never_started_and_was_stopped_ends(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness()
    prepared(harness, f"touch {tmp_path}/ran")
    await harness.agent.start()
    await harness.agent.reconcile([assigned(1, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    assert not (tmp_path / "ran").exists()


async def test_a_job_that_never_started_and_is_no_longer_desired_is_removed(
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
    why = finished.reason.removeprefix("lost: ")
    assert harness.agent.notes == (f"1 record of jobs in quarantine, such as w1-1-1: {why}",)
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
    (note,) = harness.agent.notes
    assert note.endswith("quarantine, such as w1-1-1: the record belongs to another installation")
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
