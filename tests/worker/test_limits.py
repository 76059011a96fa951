"""Limits of jobs: the kernel's, by this machine's cgroups, and the supervisor's of the disk."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from boxsched.states import Result
from boxsched.worker.agent import limiting
from boxsched.worker.agent.limiting import CannotLimit
from boxsched.worker.supervisor import containment
from boxsched.worker.supervisor.limits import Limits
from tests.worker.conftest import end, needs_bubblewrap, needs_limits
from tests.worker.harness import AgentHarness, assigned, eventually

PROJECT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
LIMITS = Limits(memory=128 * MIB, cpus=1.0, processes=40, disk=8 * MIB)
ALLOCATE = "head -c 1000000000 /dev/zero | tail > /dev/null"  # tail keeps a line that does not end
WAIT = "until [ -e {} ]; do sleep 0.02; done"


@pytest.fixture
def tmp_path(reachable_folder: Path) -> Path:
    return reachable_folder


@pytest.fixture(params=["process", pytest.param("bubblewrap", marks=needs_bubblewrap)])
async def harness(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AgentHarness]:
    harness = AgentHarness(
        tmp_path / "worker", driver=request.param, limits=limiting.limiting(LIMITS)
    )
    await harness.agent.start()
    yield harness
    await end(harness)
    assert _cgroups_of(harness) == []


def _cgroups_of(harness: AgentHarness) -> list[str]:
    name = f"boxsched-{limiting.mark(str(harness.folder))}-*"
    return [str(path) for base in limiting.bases() for path in Path(base).glob(name)]


pytestmark = needs_limits


async def test_a_job_that_takes_too_much_memory_says_so(harness: AgentHarness) -> None:
    finished = await harness.run(f"{ALLOCATE} || exit $?")
    assert (finished.result, finished.reason) == (Result.FAILED, "memory limit of 128 MiB")
    assert finished.exit_status == 137 and not finished.not_begun
    assert b"it has reached the memory limit of 128 MiB" in harness.log()
    assert (await harness.run_also(2, "true")).result is Result.PASSED


async def test_a_job_that_goes_on_without_what_was_killed_passes(harness: AgentHarness) -> None:
    finished = await harness.run(f"{ALLOCATE} || true")
    assert finished.result is Result.PASSED and finished.reason is None
    assert b"it has reached the memory limit of 128 MiB" in harness.log()


async def test_a_fork_bomb_is_held_and_ends_with_its_job(
    harness: AgentHarness, tmp_path: Path
) -> None:
    word = f"65432.{os.getpid()}"
    gate = tmp_path / "gate"
    await harness.agent.reconcile([assigned(1, "echo ready", WAIT.format(gate), "exit 4")])
    await harness.said(1, b"ready")
    start = f'defined(my $p = fork) or exit 3; $p or exec "setsid", "sleep", "{word}";'
    bomb = f"perl -e 'for (1..200) {{ {start} }}'"
    finished = await harness.run_also(2, bomb)
    assert finished.reason == "exit status 3, limit of 40 processes"
    gate.touch()
    assert (await harness.end(1)).exit_status == 4
    assert not _running(word)


def _running(word: str) -> list[Path]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in path.read_bytes():
                found.append(path)
        except OSError:
            continue
    return found


async def test_a_job_that_takes_too_much_disk_is_ended(harness: AgentHarness) -> None:
    fill = "i=0; while :; do i=$((i+1)); head -c 1000000 /dev/zero > $d/$i; sleep 0.02; done"
    finished = await harness.run(f"for d in /tmp; do d=$HOME; {fill}; done")
    assert (finished.result, finished.reason) == (Result.FAILED, "disk limit of 8 MiB")
    assert b"disk limit of 8 MiB exceeded, so the job is ended" in harness.log()
    assert finished.exit_status is None and not finished.not_begun


async def test_a_single_file_is_never_larger_than_the_disk_limit(harness: AgentHarness) -> None:
    finished = await harness.run("cat /dev/zero > file")
    assert (finished.result, finished.reason) == (Result.FAILED, "disk limit of 8 MiB")


async def test_a_job_has_the_processors_that_it_may_have(harness: AgentHarness) -> None:
    """As the kernel shows it to the worker; the kernel keeps to it."""
    await harness.agent.reconcile([assigned(1, "echo ready; sleep 300")])
    await harness.said(1, b"ready")
    found = [Path(path) for path in _cgroups_of(harness)]
    quotas = [path / name for path in found for name in ("cpu.max", "cpu.cfs_quota_us")]
    assert [path.read_text().split()[0] for path in quotas if path.exists()] == ["100000"]


async def test_what_a_dead_supervisor_and_agent_left_is_removed_at_the_next_start(
    harness: AgentHarness,
) -> None:
    await harness.agent.reconcile([assigned(1, "echo ready; setsid sleep 300 & sleep 300")])
    await harness.said(1, b"ready")
    assert _cgroups_of(harness)
    (supervisor,) = containment.supervisors("w1-1-1", str(harness.folder))
    os.kill(supervisor, signal.SIGKILL)
    await harness.restart()
    await harness.agent.reconcile([assigned(1, "true")])
    finished = await harness.end(1)
    assert finished.reason is not None and finished.reason.startswith("lost")
    await eventually(lambda: not _cgroups_of(harness))


async def test_a_job_cannot_leave_its_limits(
    tmp_path: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    """No isolated job can write to a cgroup, also if the worker runs as root."""
    harness = make_harness(driver="bubblewrap", limits=limiting.limiting(LIMITS))
    await harness.agent.start()
    leave = "for f in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/cgroup.procs; do"
    finished = await harness.run(
        f"set +e; {leave} echo $$ > $f; done; mkdir /tmp/c; mount -t cgroup2 none /tmp/c; "
        f"mount -t cgroup -o memory none /tmp/c; unshare -UrmC true && echo unshared; {ALLOCATE}"
        "; exit $?"
    )
    assert finished.reason == "memory limit of 128 MiB"


async def test_a_tmpfs_counts_as_memory(
    tmp_path: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    harness = make_harness(driver="bubblewrap", limits=limiting.limiting(Limits(memory=64 * MIB)))
    await harness.agent.start()
    finished = await harness.run("cat /dev/zero > /dev/shm/file; exit $?")
    assert finished.result is Result.FAILED
    assert finished.reason == "memory limit of 64 MiB"


def test_a_limit_without_a_cgroup_is_refused(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text("0::/\n")
    (proc / "mountinfo").write_text("")
    with pytest.raises(CannotLimit, match="no cgroup with the controller memory"):
        limiting.limiting(LIMITS, str(proc))
    assert limiting.limiting(Limits(disk=1), str(proc)) == Limits(disk=1)


def test_what_the_kernel_does_not_enforce_is_found(tmp_path: Path) -> None:
    """In an ordinary folder, writing to the files of a cgroup does nothing."""
    for name in ("cgroup.controllers", "cgroup.subtree_control"):
        (tmp_path / name).write_text("memory pids cpu")
    with pytest.raises(CannotLimit) as refused:
        limiting.limiting(LIMITS, _proc_with(tmp_path))
    assert refused.value.limit == "memory"


def _proc_with(unified: Path) -> str:
    """A /proc/self of a process in the root of a cgroup v2 that is mounted there."""
    proc = unified / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text("0::/\n")
    (proc / "mountinfo").write_text(
        f"30 24 0:26 / {unified} rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
    )
    return str(proc)


_MEASURED = """
import os, resource, sys
from boxsched.worker.supervisor.disk_watch import taken
folder = os.open(sys.argv[1], os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
print(taken(folder, 1 << 40) > 1 << 40)
"""


@pytest.mark.parametrize(("levels", "counts_as_above"), [(20, False), (30, True)])
def test_a_tree_that_is_too_deep_to_measure_hides_no_files(
    tmp_path: Path, levels: int, counts_as_above: bool
) -> None:
    """Each level takes two descriptors of the process that measures."""
    tmp_path.joinpath(*["d"] * levels).mkdir(parents=True)
    command = [sys.executable, "-c", _MEASURED, str(tmp_path)]
    done = subprocess.run(command, cwd=PROJECT, check=True, capture_output=True, text=True)
    assert done.stdout == f"{counts_as_above}\n"
