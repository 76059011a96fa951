"""Jobs that attack their folder, supervisor and traces: the Box is kept until the job has ended."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from boxsched.states import Result
from boxsched.worker.agent import attempt_watcher
from boxsched.worker.agent.attempt import LOST
from boxsched.worker.supervisor import containment, safe_files, verdict
from boxsched.worker.supervisor import folder as files
from tests.worker.harness import AgentHarness, alive, assigned, at, eventually, pid_in

FORGED = """printf '["passed", 0, null, false, null, 1.0, 2.0]' > ../../forged
mv ../../forged ../../result
"""
WAIT = "echo ready; until [ -e {} ]; do sleep 0.02; done"
# A process that leaves its session, parent, environment and folder.
ESCAPE = "(cd /; setsid env -i /bin/bash -c 'echo $$ > {}; exec sleep 300' &) >/dev/null 2>&1"


@pytest.mark.parametrize("lock", ["", "rm ../../lock; touch ../../lock; "])
async def test_a_result_that_a_job_writes_does_not_count(
    harness: AgentHarness, tmp_path: Path, lock: str
) -> None:
    """Otherwise the next deploy would start while this one still runs."""
    gate = tmp_path / "gate"
    wanted = assigned(1, f"{lock}{FORGED}", WAIT.format(gate), "exit 7")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.run_also(2, "true")  # rounds pass
    assert harness.store.finished(1) is None
    gate.touch()
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.FAILED, 7)


@pytest.mark.parametrize("lock", ["", "rm ../../lock; touch ../../lock; "])
async def test_a_result_that_a_job_writes_does_not_count_for_a_later_agent_either(
    harness: AgentHarness, tmp_path: Path, lock: str
) -> None:
    gate = tmp_path / "gate"
    wanted = assigned(1, f"{lock}{FORGED}", WAIT.format(gate), "exit 7")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.restart()
    await harness.agent.reconcile([wanted, assigned(2, "true")])
    await harness.end(2)
    assert harness.store.finished(1) is None
    gate.touch()
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.FAILED, 7)


async def test_a_result_that_a_job_writes_does_not_count_if_the_supervisor_cannot_write_its_own(
    harness: AgentHarness,
) -> None:
    """If it said that the job never started, its worker would get no more jobs."""
    forged = '["failed", null, null, false, "no git", 1.0, 2.0, null, true, null, true]'
    finished = await harness.run(
        f"printf '{forged}' > ../../forged; mv ../../forged ../../result",
        "rm ../../result.reserved",
    )
    assert (finished.result, finished.reason) == (Result.FAILED, LOST)
    assert not finished.not_begun and harness.agent.problem is None


async def test_a_job_that_kills_its_supervisor_cannot_say_that_it_never_began(
    harness: AgentHarness, tmp_path: Path
) -> None:
    """No agent runs meanwhile, so the next one finds only what the job left."""
    gate = tmp_path / "gate"
    forged = '["failed", null, null, false, "no git", 1.0, 2.0, null, true, null, true]'
    plant = f"printf '{forged}' > ../../forged; mv ../../forged ../../result"
    pid = tmp_path / "pid"
    wait = WAIT.format(gate)
    wanted = assigned(1, f"echo $PPID > {pid}", wait, f"{plant}; kill -KILL $PPID")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.close()
    gate.touch()
    await eventually(lambda: not alive(pid_in(pid)))
    await harness.restart()
    await harness.agent.reconcile([wanted])
    finished = await harness.end(1)
    assert finished.result is Result.FAILED
    assert not finished.not_begun and harness.agent.problem is None


async def test_a_job_that_kills_its_supervisor_and_escapes_is_lost_completely(
    harness: AgentHarness, tmp_path: Path, containment_kind: str
) -> None:
    """Its own result does not count, and nothing of it runs when it is reported."""
    pid = tmp_path / "pid"
    escape = f"{ESCAPE.format(pid)}; until [ -s {pid} ]; do sleep 0.01; done"
    leave = f"for g in /sys/fs/cgroup/cgroup.procs; do cat {pid} > $g || true; done 2>/dev/null"
    kill = "supervisor=$PPID; echo killing; kill -KILL $supervisor; sleep 300"
    finished = await harness.run(escape, leave, FORGED, kill)
    assert (finished.result, finished.reason) == (Result.FAILED, LOST)
    assert not finished.lost, "its commands ran: it gets no other attempt"
    assert not alive(pid_in(pid)), "it was found, though it looked like no job's"


@pytest.mark.parametrize("name", ["spawner.log", files.BELL])
async def test_a_folder_in_the_place_of_a_file_keeps_no_agent_from_starting(
    harness: AgentHarness, name: str
) -> None:
    await harness.run(f"rm -f ../../../{name}; mkdir -p ../../../{name}/deep")
    await harness.restart()
    await harness.agent.reconcile([assigned(2, "true")])
    assert (await harness.end(2)).result is Result.PASSED


async def test_another_jobs_supervisor_is_not_killed_as_an_orphan(
    harness: AgentHarness, tmp_path: Path
) -> None:
    """Only processes of the dead supervisor are killed."""
    gate = tmp_path / "gate"
    other = assigned(2, WAIT.format(gate))
    await harness.agent.reconcile([other])
    await harness.said(2, b"ready")
    await harness.agent.reconcile([other, assigned(1, "kill -KILL $PPID; sleep 300")])
    assert (await harness.end(1)).result is Result.FAILED
    gate.touch()
    assert (await harness.end(2)).result is Result.PASSED


async def test_a_box_that_became_a_link_is_removed_and_not_followed(
    harness: AgentHarness, tmp_path: Path
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    replace = f"cd ../..; mv box hidden; ln -s {precious} box; ln -s {precious} box.1"
    assert (await harness.run(replace)).result is Result.PASSED
    await harness.agent.reconcile([])
    await eventually(lambda: not list(harness.folder.glob("trash/*")))
    assert [path.name for path in precious.iterdir()] == ["file"]


async def test_an_attempts_folder_that_became_a_link_is_not_followed(
    harness: AgentHarness, tmp_path: Path
) -> None:
    """Neither for its supervisor's notes, nor at removal."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / files.RESULT).write_text("kept")
    harness.agent._driver.__dict__["_stop_grace"] = 0.0
    folder = harness.folder / "w1-1-1"
    replace = f"mv {folder} {tmp_path}/mine; ln -s {precious} {folder}"
    wanted = assigned(1, replace, "echo ready", "sleep 300")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    await harness.agent.reconcile([])
    await eventually(lambda: not os.path.lexists(folder))
    assert (precious / files.RESULT).read_text() == "kept"
    await asyncio.to_thread((tmp_path / "mine").rename, harness.folder / "trash" / "mine")


async def test_a_record_that_names_another_job_or_cgroup_is_not_believed(
    harness: AgentHarness, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    await harness.agent.reconcile([assigned(1, WAIT.format(gate))])
    await harness.said(1, b"ready")
    folder = harness.folder / "w1-1-1"
    at = safe_files.open_folder(str(folder))
    record = files.read_record(at)
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "cgroup.kill").touch()
    files.write_record(at, record._replace(cgroup=str(victim)))
    await harness.restart()
    await harness.agent.reconcile([assigned(1, WAIT.format(gate))])
    gate.touch()
    assert (await harness.end(1)).result is Result.PASSED
    assert (victim / "cgroup.kill").read_text() == "" and victim.is_dir()
    os.close(at)
    other = assigned(2, "echo two; sleep 300")
    await harness.agent.reconcile([other])
    await harness.said(2, b"two")
    at = safe_files.open_folder(str(harness.folder / "w2-1-1"))
    files.write_record(at, files.read_record(at)._replace(job=record.job))
    os.close(at)
    await harness.restart()
    assert (harness.folder / "quarantine/w2-1-1").is_dir()


async def test_a_killed_spawner_takes_no_job_with_it(harness: AgentHarness, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    wanted = assigned(1, WAIT.format(gate), "exit 3")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    spawner = harness.agent._driver.__dict__["_spawner"]
    os.kill(spawner._process.pid, signal.SIGKILL)
    gate.touch()
    assert (await harness.end(1)).exit_status == 3


async def test_a_job_that_freezes_its_supervisor_can_still_be_stopped(
    harness: AgentHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_watcher, "OVERDUE_SECONDS", 0.2)
    told = tmp_path / "pid"
    freeze = "kill -STOP $PPID; echo $$ > {}; trap '' TERM; while :; do sleep 1; done"
    wanted = assigned(1, freeze.format(told))
    await harness.agent.reconcile([wanted])
    await eventually(lambda: told.exists() and told.read_text().strip())
    pid = pid_in(told)
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    assert (await harness.end(1)).result is Result.FAILED
    assert not alive(pid)


async def test_a_job_that_freezes_the_spawner_does_not_block_the_start_of_others(
    harness: AgentHarness,
) -> None:
    freeze = "kill -STOP $(sed -n 's/^PPid:\\t//p' /proc/$PPID/status)"
    assert (await harness.run(freeze)).result is Result.PASSED
    assert (await harness.run_also(2, "true")).result is Result.PASSED


async def test_hidden_processes_of_a_dead_supervisor_are_killed(
    make_harness: Callable[..., AgentHarness], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no cgroup, no job environment, and its own session and folder."""
    monkeypatch.setattr(containment, "cgroup_base", lambda: None)
    harness = make_harness()
    await harness.agent.start()
    hidden = f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 1000"
    script = f"(cd /; setsid env -i /bin/bash -c '{hidden}' &); "
    script += f"until [ -e {tmp_path}/pid ]; do sleep 0.01; done; kill -KILL $PPID"
    finished = await harness.run(script)
    assert finished.reason == LOST
    assert not alive(pid_in(tmp_path / "pid"))


async def test_a_supervisor_has_the_grace_of_a_stop_before_it_counts_as_overdue(
    harness: AgentHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_watcher, "OVERDUE_SECONDS", 0.0)
    gate = tmp_path / "gate"
    script = f"trap 'until [ -e {gate} ]; do sleep 0.01; done; exit' TERM; echo ready; "
    wanted = assigned(1, f"{script} while :; do sleep 0.05; done")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    for number in (2, 3):  # each of them has the first checked again
        others = [assigned(n, "true", ordinal=n) for n in range(2, number + 1)]
        await harness.agent.reconcile([attrs.evolve(wanted, stop=True), *others])
        await harness.end(number)
    gate.touch()
    assert (await harness.end(1)).result is Result.STOPPED


async def test_a_stop_note_that_a_job_wrote_itself_does_not_extend_its_time_limit(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(stop_grace=0.2)
    await harness.agent.start()
    script = "trap '' TERM; echo 1e9 > ../../stop; while :; do sleep 0.05; done"
    await harness.agent.reconcile([assigned(1, script, timeout_seconds=4.0)])
    assert (await harness.end(1)).result is Result.STOPPED


@pytest.mark.parametrize(
    ("text", "grace"),
    [
        (None, None),
        (b"2.5", 2.5),
        (b"0", 0.0),
        (b"soon", 0.0),
        (b"inf", 0.0),
        (b"nan", 0.0),
        (b"-1", 0.0),
        (b"x" * 70_000, 0.0),
    ],
)
def test_a_stop_note_that_a_job_wrote_itself_ends_it_at_once(
    tmp_path: Path, text: bytes | None, grace: float | None
) -> None:
    if text is not None:
        (tmp_path / files.STOP).write_bytes(text)
    assert verdict.grace(at(tmp_path)) == grace
