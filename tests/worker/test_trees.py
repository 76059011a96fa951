"""A job is a tree of processes and ends as a whole: at its end, at a stop, at its time limit."""

import os
import signal
import zlib
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from boxsched.protocol.assignments import Assignment
from boxsched.states import Result
from boxsched.worker.supervisor import containment
from boxsched.worker.supervisor.last_heartbeat import boottime
from tests.worker.harness import AgentHarness, alive, assigned, eventually, pid_in

# Forks twice, leaves the session, ignores SIGTERM, and keeps the job's output open.
ESCAPE = """
(setsid bash -c 'trap "" TERM
  echo $$ > "$0.new"; mv "$0.new" "$0"; while :; do sleep 1; done' {0} &)
until [ -e {0} ]; do sleep 0.01; done
"""
WAIT = "echo ready; while :; do sleep 0.05; done"

pytestmark = pytest.mark.usefixtures("containment_kind")


def stopped(wanted: Assignment) -> Assignment:
    return attrs.evolve(wanted, stop=True)


def cgroups_of(harness: AgentHarness) -> list[Path]:
    mark = f"boxsched-{zlib.crc32(str(harness.folder).encode()):08x}-*"
    return list(Path("/sys/fs/cgroup").rglob(mark))


async def test_escaped_processes_are_dead_when_the_job_has_ended(
    harness: AgentHarness, tmp_path: Path
) -> None:
    finished = await harness.run(ESCAPE.format(tmp_path / "pid"), "echo done")
    assert finished.result is Result.PASSED
    assert not alive(pid_in(tmp_path / "pid"))


async def test_escaped_processes_are_dead_after_a_stop(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness(stop_grace=0.2)
    await harness.agent.start()
    wanted = assigned(1, ESCAPE.format(tmp_path / "pid"), WAIT)
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([stopped(wanted)])
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.STOPPED, None)
    assert not alive(pid_in(tmp_path / "pid"))


async def test_a_stop_first_asks_the_job_to_end(harness: AgentHarness) -> None:
    wanted = assigned(1, "trap 'echo cleaning up; exit 7' TERM", WAIT)
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([stopped(wanted)])
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.STOPPED, 7)
    assert harness.log().endswith(b"\ncleaning up\n")


async def test_a_stop_gives_the_whole_tree_its_grace(harness: AgentHarness) -> None:
    child = f"""bash -c 'trap "sleep 0.3; echo saved; exit" TERM; {WAIT}'"""
    wanted = assigned(1, child)
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([stopped(wanted)])
    assert (await harness.end(1)).result is Result.STOPPED
    assert harness.log().endswith(b"\nsaved\n")


async def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(stop_grace=0.3)
    await harness.agent.start()
    wanted = assigned(1, "trap '' TERM", WAIT)
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([stopped(wanted)])
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.STOPPED, None)


async def test_a_job_that_had_ended_before_the_stop_keeps_its_result(
    harness: AgentHarness, tmp_path: Path
) -> None:
    wanted = assigned(1, "true")
    await harness.agent.reconcile([wanted])
    await eventually((harness.folder / "w1-1-1/result").exists)
    await harness.agent.reconcile([stopped(wanted)])
    assert (await harness.end(1)).result is Result.PASSED


async def test_the_time_limit_needs_no_agent(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness(stop_grace=0.3)
    await harness.agent.start()
    escape = ESCAPE.format(tmp_path / "pid")
    await harness.agent.reconcile([assigned(1, escape, "trap '' TERM", WAIT, timeout_seconds=1.0)])
    await harness.said(1, b"ready")
    await harness.agent.close()
    await eventually((harness.folder / "w1-1-1/result").exists)
    assert not alive(pid_in(tmp_path / "pid"))
    harness.agent = harness._agent()
    await harness.agent.start()
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.FAILED, None)
    assert finished.reason == "time limit of 1 s"


async def test_a_time_limit_ends_a_job_as_a_stop_does(harness: AgentHarness) -> None:
    clean = "trap 'echo cleaning up; exit 0' TERM"
    await harness.agent.reconcile([assigned(1, clean, WAIT, timeout_seconds=0.5)])
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.FAILED, None)
    assert finished.reason == "time limit of 0.5 s"
    lines = harness.log().decode().splitlines()
    ended = lines.index("[boxsched: time limit of 0.5 s reached, so the job is ended]")
    assert "cleaning up" in lines[ended:]


async def test_the_log_names_the_user_who_stopped_the_job_and_the_reason(
    harness: AgentHarness,
) -> None:
    wanted = assigned(1, "printf ready; while :; do sleep 0.05; done")
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    why = "stopped by admin: superseded\nby web#12 \N{RIGHT-TO-LEFT OVERRIDE}"
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True, stop_reason=why)])
    await harness.end(1)
    assert harness.log() == b"ready\n[boxsched: stopped by admin: superseded?by web#12 ?]\n"


async def test_attempts_that_are_not_desired_are_ended_and_forgotten(harness: AgentHarness) -> None:
    await harness.agent.reconcile([assigned(1, WAIT)])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([])
    assert (await harness.end(1)).result is Result.STOPPED
    await eventually(lambda: not list(harness.folder.glob("w*")))


@pytest.mark.parametrize("environment", [{}, {"HOME": "/", "TMPDIR": "/tmp"}])
async def test_a_killed_supervisor_takes_its_job_with_it(
    harness: AgentHarness, tmp_path: Path, environment: dict[str, str]
) -> None:
    supervisor = tmp_path / "supervisor"
    commands = (ESCAPE.format(tmp_path / "pid"), f"echo $PPID > {supervisor}", WAIT)
    await harness.agent.reconcile([assigned(1, *commands, environment=environment)])
    await harness.said(1, b"ready")
    os.kill(pid_in(supervisor), signal.SIGKILL)
    finished = await harness.end(1)
    assert (finished.result, finished.exit_status) == (Result.FAILED, None)
    assert finished.reason is not None
    assert finished.reason.startswith("lost")
    assert not alive(pid_in(tmp_path / "pid"))
    assert harness.log() == b"ready\n"


async def test_a_jobs_cgroup_is_removed_with_the_job(
    harness: AgentHarness, containment_kind: str
) -> None:
    await harness.run("cat /proc/self/cgroup")
    (path,) = [line for line in harness.log().decode().splitlines() if line.startswith("0::")]
    assert path.endswith("-w1-1-1") is (containment_kind == "cgroup")
    assert not cgroups_of(harness)


async def test_the_whole_tree_has_its_grace_at_the_time_limit(harness: AgentHarness) -> None:
    """Also if the script itself ends at once."""
    child = "trap 'sleep 0.2; echo in peace; exit' TERM; while :; do sleep 0.05; done"
    script = f"({child}) & trap 'exit 0' TERM; while :; do sleep 0.05; done"
    finished = await harness.run(script, timeout_seconds=1.0)
    assert finished.reason == "time limit of 1 s"
    assert b"in peace\n" in harness.log()


async def test_a_job_that_ended_in_time_keeps_its_result_if_that_is_seen_later(
    harness: AgentHarness, tmp_path: Path
) -> None:
    """As after a suspension of the machine when it ended."""
    script = f"echo $PPID > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; "
    script += "kill -STOP $PPID; exit 3"
    before = boottime()
    await harness.agent.reconcile([assigned(1, script, timeout_seconds=1.0)])
    await eventually((tmp_path / "pid").exists)
    supervisor = pid_in(tmp_path / "pid")
    await eventually(lambda: containment.is_frozen(supervisor))
    await eventually(lambda: not [p for p in containment.descendants(supervisor) if alive(p)])
    await eventually(lambda: boottime() > before + 1.5)
    os.kill(supervisor, signal.SIGCONT)
    assert (await harness.end(1)).exit_status == 3
