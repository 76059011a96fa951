"""Problems of a worker that keep it from starting jobs are not the build's failure."""

import asyncio
import contextlib
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import attrs
import pytest

from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result
from boxsched.worker.agent import readiness, repository
from boxsched.worker.agent.readiness import Readiness, check
from boxsched.worker.supervisor import trouble
from boxsched.worker.supervisor.machine_watch import MachineWatch
from tests.worker.harness import AgentHarness, assigned

LIMIT_SECONDS = 30.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "MACHINE_LOOK_SECONDS", 0.02)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2M", "boxsched-test", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
async def small_harness(small_disk: Path) -> AsyncIterator[AgentHarness]:
    harness = AgentHarness(small_disk / "worker")
    await harness.agent.start()
    yield harness
    await harness.agent.reconcile([])
    await harness.agent.close()


def fill(disk: Path) -> Path:
    """A file that fills the disk."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4_096))
    return ballast


async def not_begun(harness: AgentHarness, number: int = 1) -> JobFinished:
    finished = await harness.end(number)
    assert (finished.result, finished.not_begun, finished.lost) == (Result.FAILED, True, True)
    return finished


def fake_git(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a fake git in front of the real one for jobs."""
    path = folder / "git"
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)
    known = repository.program
    monkeypatch.setattr(
        repository, "program", lambda name: str(path) if name == "git" else known(name)
    )


# --- The disk -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "needed"),
    [(1 << 40, 64 << 20), (1280 << 20, 64 << 20), (1200 << 20, 60 << 20), (40 << 12, 2 << 12)],
)
def test_a_disk_is_full_with_less_than_64_mib_or_a_20th_free(
    monkeypatch: pytest.MonkeyPatch, size: int, needed: int
) -> None:
    for free, full in ((needed, False), (needed - 4096, True), (0, True), (size, False)):
        status = SimpleNamespace(f_blocks=size >> 12, f_frsize=4096, f_bavail=free >> 12)
        disks = {"/data": status}
        monkeypatch.setattr(trouble, "os", SimpleNamespace(statvfs=disks.__getitem__))
        assert trouble.has_no_room("/data") is full


async def test_a_full_disk_fails_no_build_and_is_reported_first(
    small_harness: AgentHarness, small_disk: Path
) -> None:
    harness = small_harness
    ballast = fill(small_disk)
    await harness.agent.reconcile([assigned(1, "true")])
    finished = await not_begun(harness)
    assert finished.reason == trouble.DISK_FULL
    assert harness.store.started(1) == []
    assert harness.store.problems[0] == "disk full", "before the report"
    assert harness.agent.problem == "disk full"
    ballast.unlink()
    await harness.store.until(lambda: harness.store.problems[-1] is None)
    assert harness.agent.problem is None
    await harness.agent.reconcile([assigned(2, "echo well")])
    assert (await harness.end(2)).result is Result.PASSED


async def test_a_nearly_full_disk_counts_as_full(
    small_harness: AgentHarness, small_disk: Path
) -> None:
    """Otherwise a script would start and have no space for its output."""
    ballast = fill(small_disk)
    with ballast.open("r+b") as file:
        file.truncate(ballast.stat().st_size - 32_768)
    await small_harness.agent.reconcile([assigned(1, "true")])
    assert (await not_begun(small_harness)).reason == "disk full"


async def test_a_limit_that_a_job_itself_exceeds_is_its_own_failure(
    small_harness: AgentHarness, small_disk: Path
) -> None:
    finished = await small_harness.run("cat /dev/zero > file || true; echo more; sleep 1")
    assert (finished.result, finished.not_begun) == (Result.FAILED, False)
    await small_harness.agent.reconcile([])


def test_how_much_disk_space_is_enough(small_disk: Path) -> None:
    assert not trouble.has_no_room(str(small_disk))
    assert check(str(small_disk), ["/bin/bash"]) is None
    fill(small_disk)
    assert trouble.has_no_room(str(small_disk))
    assert check(str(small_disk), ["/bin/bash"]) == "disk full"


async def test_git_is_believed_that_the_disk_is_full_if_it_was(
    small_harness: AgentHarness, small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fills the disk, and frees it when it fails."""
    fills = f"head -c 100G /dev/zero > {small_disk}/pack; sleep 0.3; rm {small_disk}/pack"
    said = "fatal: write error: No space left on device"
    fake_git(tmp_path, f"{fills}; echo '{said}' >&2; exit 128", monkeypatch)
    await small_harness.agent.reconcile([assigned(1, "true", repository="file:///nowhere")])
    assert (await not_begun(small_harness)).reason == "disk full"


# --- git ------------------------------------------------------------------------------------


async def test_a_worker_without_git_reports_it_and_starts_no_job(
    harness: AgentHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = repository.program
    nowhere = str(tmp_path / "git")
    monkeypatch.setattr(
        repository, "program", lambda name: nowhere if name == "git" else known(name)
    )
    monkeypatch.setattr(readiness, "GIT", nowhere)
    await harness.agent.reconcile([assigned(1, "true", repository="file:///nowhere")])
    assert (await not_begun(harness)).reason == "git is not installed"
    assert harness.store.problems[0] == "git is not installed"
    Path(nowhere).symlink_to(known("git"))
    await harness.store.until(lambda: harness.store.problems[-1] is None)


@pytest.mark.parametrize("there", ["link", "tree", "file"])
def test_a_file_that_a_job_puts_in_place_of_the_probe_is_removed(
    tmp_path: Path, there: str
) -> None:
    """Following a link would remove a file of another folder, and the worker would never be
    ready."""
    folder, other = tmp_path / "worker", tmp_path / "other"
    for made in (folder, other):
        made.mkdir()
    (other / "file").write_text("kept")
    probe = folder / readiness.PROBE
    if there == "link":
        probe.symlink_to(other)
    elif there == "tree":
        (probe / "file" / "deep").mkdir(parents=True)
    else:
        probe.write_text("")
    assert check(str(folder), ["/bin/bash"]) is None
    assert (other / "file").read_text() == "kept"
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("kill -KILL $$", "git check-ref-format was killed, perhaps because memory ran out"),
    ],
)
async def test_git_errors_of_the_machine_are_the_workers_problem(
    harness: AgentHarness,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str,
    problem: str,
) -> None:
    fake_git(tmp_path, script, monkeypatch)
    await harness.agent.reconcile([assigned(1, "true", repository="file:///nowhere")])
    assert (await not_begun(harness)).reason == problem


@pytest.mark.parametrize(
    "script",
    [
        "echo 'fatal: repository not found' >&2; exit 128",
        "echo 'Permission denied (publickey).' >&2; exit 128",
        "echo 'fatal: write error: No space left on device' >&2; exit 128",
        "echo 'fatal: Out of memory, malloc failed' >&2; exit 128",
        "kill -TERM $$",
    ],
)
async def test_problems_of_the_repository_are_the_builds_failure(
    harness: AgentHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    fake_git(tmp_path, script, monkeypatch)
    finished = await harness.run("true", repository="file:///nowhere")
    assert (finished.result, finished.not_begun) == (Result.FAILED, False)
    assert finished.reason is not None and "git check-ref-format failed" in finished.reason
    assert None not in harness.store.problems and harness.agent.problem is None


async def test_a_stop_while_git_runs_is_a_stop(
    harness: AgentHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_git(tmp_path, "echo here; sleep 60 & wait", monkeypatch)
    harness.agent._driver.__dict__["_stop_grace"] = 0.0
    await harness.agent.reconcile([assigned(1, "true", repository="file:///nowhere")])
    await harness.said(1, b"here")
    await harness.agent.reconcile([assigned(1, "true", repository="file:///nowhere", stop=True)])
    finished = await harness.end(1)
    assert (finished.result, finished.not_begun) == (Result.STOPPED, False)


async def test_a_job_that_no_worker_could_start_is_the_builds_failure(
    harness: AgentHarness,
) -> None:
    finished = await harness.run("true", environment={"LARGE": "x" * (1 << 20)})
    assert (finished.result, finished.not_begun) == (Result.FAILED, False)
    assert finished.reason == "cannot start the script: Argument list too long"


# --- Episodes -------------------------------------------------------------------------------


class Worker:
    """The problem, and what was reported of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(readiness, "check", self._check)
        self.wrong: str | None = None
        self.said: list[str | None] = []
        self.checks = 0
        self.told = asyncio.Event()
        self.readiness = Readiness(Path("/"), self._say)

    def _check(self, folder: str, programs: Collection[str]) -> str | None:
        self.checks += 1
        return self.wrong

    async def _say(self, problem: str | None) -> None:
        self.said.append(problem)
        self.told.set()

    async def until(self, what: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS):
            while not what():
                self.told.clear()
                await self.told.wait()


@pytest.fixture
async def worker(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    worker = Worker(monkeypatch)
    task = asyncio.create_task(worker.readiness.run())
    yield worker
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_episode_is_over_when_a_check_finds_nothing(worker: Worker) -> None:
    worker.wrong = "disk full"
    worker.readiness.found("disk full")
    await worker.until(lambda: worker.said == ["disk full"])
    worker.wrong = None
    await worker.until(lambda: worker.said == ["disk full", None])
    assert worker.readiness.problem is None


async def test_an_unconfirmed_suspicion_is_not_reported(worker: Worker) -> None:
    worker.readiness.suspected()
    async with asyncio.timeout(LIMIT_SECONDS):
        while not worker.checks:  # noqa: ASYNC110 -- a thread does it
            await asyncio.sleep(0.001)
    worker.wrong = "no memory"
    worker.readiness.suspected()
    await worker.until(lambda: worker.said == ["no memory"])


async def test_each_episode_lasts_longer_until_a_job_starts(worker: Worker) -> None:
    now = time.monotonic()

    def episode() -> float:
        """Start an episode; return its shortest duration in seconds."""
        with pytest.MonkeyPatch.context() as held:
            held.setattr(readiness.time, "monotonic", lambda: now)
            worker.readiness.found("disk full")
        return round(worker.readiness._until - now, 6)

    lasted = []
    for _ in range(4):
        lasted.append(episode())
        count = len(worker.said)
        await worker.until(lambda count=count: len(worker.said) == count + 2)  # type: ignore[misc]
    assert lasted == [0.02, 0.04, 0.08, 0.16]
    worker.readiness.begun()
    assert episode() == 0.02


@attrs.frozen
class SeenMachine:
    """As a MachineWatch that has seen all of it, or nothing."""

    disk_was_full: bool = True
    memory_was_low: bool = True
    disk_is_read_only: bool = True


SHORT, WELL = SeenMachine(), SeenMachine(False, False, False)


def of_git(status: int, said: bytes, machine: SeenMachine = SHORT) -> str | None:
    return trouble.of_git("git clone", status, said, cast("MachineWatch", machine))


@pytest.mark.parametrize(
    ("said", "problem", "others"),
    [
        (b"fatal: write error: No space left on device", "disk full", "disk_was_full"),
        (b"error: x: Disk quota exceeded", "disk full", "disk_was_full"),
        (b"fatal: Out of memory, malloc failed", "out of memory", "memory_was_low"),
        (b"error: x: Cannot allocate memory", "out of memory", "memory_was_low"),
        (b"error: x: Read-only file system", "read-only file system", "disk_is_read_only"),
    ],
)
def test_git_is_believed_about_the_machine_if_the_machine_was_so(
    said: bytes, problem: str, others: str
) -> None:
    assert of_git(128, b"error: x\n" + said + b"\n") == problem
    assert of_git(128, said, attrs.evolve(WELL, **{others: True})) == problem
    assert of_git(128, said, attrs.evolve(SHORT, **{others: False})) is None


def test_other_words_of_git_are_the_builds_failure() -> None:
    assert of_git(128, b"fatal: no such branch") is None
    for quoted in (b"remote: fatal: x", b"fatal: remote error: x", b"x"):
        assert of_git(128, quoted + b": No space left on device\n") is None
    assert of_git(128, b"fatal: x: No space left on device: y\n") is None
    assert of_git(-signal.SIGTERM, b"") is None
    killed = "git clone was killed, perhaps because memory ran out"
    assert of_git(-signal.SIGKILL, b"", WELL) == killed
