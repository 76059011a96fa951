"""One job from its start to its end: result, environment, workspace."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from boxsched.model import Kind
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result
from boxsched.worker.supervisor.last_heartbeat import boottime
from tests.worker.harness import AgentHarness, assigned, eventually, job


async def test_a_job_passes(harness: AgentHarness) -> None:
    finished = await harness.run("echo one", "echo two >&2")
    assert (finished.result, finished.exit_status, finished.reason) == (Result.PASSED, 0, None)
    assert harness.log() == b"one\ntwo\n"
    started, ended = harness.store.reports
    assert isinstance(started, JobStarted)
    assert isinstance(ended, JobFinished)
    assert started.lease_token == ended.lease_token == 1
    assert started.at <= ended.at


async def test_a_worker_that_expects_no_jobs_runs_one(
    make_harness: Callable[..., AgentHarness],
) -> None:
    """A job may remain from a time when the node had Boxes."""
    harness = make_harness(expects_jobs=False)
    await harness.agent.start()
    assert (await harness.run("true")).result is Result.PASSED


async def test_the_first_command_that_fails_ends_the_script(harness: AgentHarness) -> None:
    finished = await harness.run("echo before", "(exit 3)", "echo after")
    assert (finished.result, finished.exit_status) == (Result.FAILED, 3)
    assert finished.reason == "exit status 3"
    assert harness.log() == b"before\n"


async def test_a_job_that_a_signal_ends_has_no_exit_status(harness: AgentHarness) -> None:
    finished = await harness.run("kill -SEGV $$")
    assert (finished.result, finished.exit_status) == (Result.FAILED, None)
    assert finished.reason == "signal SIGSEGV"


async def test_the_log_is_stored_before_the_end_is_reported(harness: AgentHarness) -> None:
    await harness.run("head -c 1000000 /dev/zero | tr '\\0' '.' | fold -w 99")
    assert len(harness.store.log_when_finished[job(1)]) == 1_000_000 + 1_000_000 // 99


async def test_the_environment_is_as_the_contract_says_and_nothing_else(
    harness: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOXSCHED_DATABASE", "postgresql://user:secret@host/db")
    monkeypatch.setenv("SECRET", "of the service")
    own = {"GREETING": "hello; $(id)\nworld", "LANG": "C", "BOXSCHED_JOB": "forged"}
    await harness.run(
        "cat /proc/$$/environ",  # as bash was given it, without what bash adds
        environment=own,
        branch="feature/$(id)",
        commit="0123456789abcdef",
    )
    box = f"{harness.folder}/w1-1-1/box"
    told = dict(line.split("=", 1) for line in harness.log().decode().split("\0") if line)
    assert told == {
        "BOXSCHED_PROJECT": "web",
        "BOXSCHED_KIND": "build",
        "BOXSCHED_BRANCH": "feature/$(id)",
        "BOXSCHED_COMMIT": "0123456789abcdef",
        "BOXSCHED_WORKLOAD": "w1",
        "BOXSCHED_JOB": "w1-1",
        "BOXSCHED_ATTEMPT": "1",
        "BOXSCHED_LEASE_TOKEN": "1",
        "GREETING": "hello; $(id)\nworld",
        "LANG": "C",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": f"{box}/home",
        "TMPDIR": f"{box}/tmp",
    }


async def test_nothing_of_the_service_is_in_its_helpers_environment(
    harness: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "canary")
    await harness.restart()
    await harness.run("cat /proc/$PPID/environ")
    assert b"canary" not in harness.log()


async def test_a_job_may_set_variables_that_have_a_default(
    harness: AgentHarness, tmp_path: Path
) -> None:
    home, tmp = f"{tmp_path}/home", f"{tmp_path}/tmp"
    await harness.run("echo $HOME $TMPDIR $LANG", environment={"HOME": home, "TMPDIR": tmp})
    assert harness.log().decode().split() == [home, tmp, "C.UTF-8"]


async def test_the_duration_of_a_run_is_measured(harness: AgentHarness) -> None:
    before = boottime()
    finished = await harness.run("until [ $SECONDS -ge 2 ]; do sleep 0.01; done")  # more than 1 s
    assert finished.seconds is not None
    assert 0.5 <= finished.seconds < boottime() - before
    assert finished.seconds == pytest.approx(finished.at - harness.store.started(1)[0].at, abs=1e-6)


async def test_a_deploy_knows_its_server(harness: AgentHarness) -> None:
    deploy = {"kind": Kind.DEPLOY, "branch": None, "server": "production"}
    await harness.run("echo $BOXSCHED_KIND $BOXSCHED_SERVER ${BOXSCHED_BRANCH-none}", **deploy)
    assert harness.log() == b"deploy production none\n"


async def test_a_job_has_three_descriptors_and_no_input(harness: AgentHarness) -> None:
    # Through a file: while bash sets up a pipe it holds the pipe's descriptors itself.
    listed = "ls /proc/$$/fd > fds; sort -n fds | tr '\\n' ' '"
    await harness.run("cat", "readlink /proc/self/fd/0", listed)
    assert harness.log() == b"/dev/null\n0 1 2 255 "  # 255: bash's own, the script


async def test_signals_have_their_default_behaviour(harness: AgentHarness) -> None:
    await harness.run("grep -E '^Sig(Ign|Blk)|NoNewPrivs' /proc/self/status", "ulimit -c", "umask")
    signals, others = harness.log().decode().split("NoNewPrivs:")
    blocked, ignored = (int(mask, 16) for mask in signals.split()[1::2])
    # 32 and 33 belong to the C library: its posix_spawn ignores one, and no program may set them.
    assert (blocked, ignored & ~(0b11 << 31)) == (0, 0)
    assert others.split() == ["1", "0", "0022"]


async def test_the_workspace_is_fresh_and_removed(harness: AgentHarness) -> None:
    await harness.run(
        "ls -A . ~ $TMPDIR; pwd",
        "mkdir -p deep/er; touch deep/er/file; ln -s / deep/link; chmod -R a-w deep",
    )
    box = harness.folder / "w1-1-1/box"
    assert harness.log().decode().splitlines()[-1] == f"{box}/workspace"
    assert b"file" not in harness.log()
    await eventually(lambda: not box.exists())


async def test_a_finished_job_is_remembered_until_it_is_no_longer_desired(
    harness: AgentHarness, tmp_path: Path
) -> None:
    desired = [assigned(1, f"echo ran >> {tmp_path}/ledger")]
    await harness.agent.reconcile(desired)
    await harness.end(1)
    await harness.agent.reconcile(desired)
    await harness.restart()
    await harness.agent.reconcile(desired)
    await harness.agent.reconcile([])
    await eventually(lambda: not list(harness.folder.glob("w*")))
    assert (tmp_path / "ledger").read_text() == "ran\n"


async def test_fifty_jobs_run_at_once(harness: AgentHarness) -> None:
    numbers = range(1, 51)
    await harness.agent.reconcile([assigned(n, f"echo {n}") for n in numbers])
    await harness.store.until(lambda: all(harness.store.finished(n) for n in numbers))
    assert [harness.log(n) for n in numbers] == [b"%d\n" % n for n in numbers]
    assert all(len(harness.store.started(n)) == 1 for n in numbers)


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"kind": Kind.SSH}, "the node is of an earlier version"),
        ({"environment": {"A=B": "x"}}, "environment"),
        ({"environment": {"A": "\0"}}, "environment"),
        ({"commands": ("\ud800",)}, "commands"),
        ({"environment": {"A": "x" * 200_000}}, "cannot start the script: Argument list too long"),
    ],
)
async def test_a_job_that_cannot_be_run_fails_with_a_reason(
    harness: AgentHarness, other: dict[str, object], reason: str
) -> None:
    await harness.agent.reconcile([assigned(1, **other)])
    finished = await harness.end(1)
    assert finished.result is Result.FAILED
    assert finished.reason is not None
    assert reason in finished.reason
    assert harness.store.started(1) == []


async def test_the_agents_folder_is_private(harness: AgentHarness) -> None:
    assert os.stat(harness.folder).st_mode & 0o077 == 0
