"""Jobs in containers of podman; skipped where podman, or a runtime that works, is missing."""

import functools
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import attrs
import pytest

from boxsched.protocol.assignments import JobSecret
from boxsched.states import Result
from boxsched.worker.agent import podman as podman_module
from boxsched.worker.agent.images import Images
from boxsched.worker.agent.limiting import mark
from boxsched.worker.agent.podman import Podman
from boxsched.worker.supervisor import containment
from boxsched.worker.supervisor.limits import Limits
from tests.worker.conftest import end, needs_bubblewrap
from tests.worker.harness import AgentHarness, assigned, eventually, isolated
from tests.worker.test_git import repository

__all__ = ["repository"]

# An image of this process's own: removing one kills the containers of all who use it.
IMAGE = f"localhost/boxsched-test-{os.getpid()}:1"
BUSYBOX = shutil.which("busybox")
MEMORY = 64 << 20


@functools.cache
def _podman(limited: bool = False) -> Podman | str:
    limits = Limits(memory=MEMORY, processes=60) if limited else Limits()
    return podman_module.podman(network=False, limits=limits)


def _why_not() -> str | None:
    if BUSYBOX is None:
        return "no busybox (static)"
    found = _podman() if shutil.which("podman") else "podman is not installed"
    return found if isinstance(found, str) else None


pytestmark = [
    needs_bubblewrap,
    pytest.mark.skipif(_why_not() is not None, reason=f"no containers: {_why_not()}"),
]


@pytest.fixture
def tmp_path(reachable_folder: Path) -> Path:
    return reachable_folder


@pytest.fixture(scope="module", autouse=True)
def _image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Import an image of busybox alone."""
    root = tmp_path_factory.mktemp("image")
    (root / "bin").mkdir()
    assert BUSYBOX is not None
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("sh", "cat", "id", "ls", "sleep", "rev", "touch", "head", "tail", "env"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "release").write_text("tiny\n")
    tar = subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE)
    subprocess.run(["podman", "import", "-", IMAGE], stdin=tar.stdout, check=True)
    tar.communicate()
    yield
    subprocess.run(["podman", "rmi", "--force", IMAGE], check=False)


def _harness(folder: Path, limits: Limits = Limits()) -> AgentHarness:  # noqa: B008 -- a value
    found = _podman(limits != Limits())
    assert isinstance(found, Podman)
    return AgentHarness(
        folder,
        driver="podman",
        isolation=isolated(folder, readable=(), repositories=True),
        images=Images("builder-1", podman=found),
        limits=limits,
    )


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[AgentHarness]:
    harness = _harness(tmp_path / "worker")
    await harness.agent.start()
    yield harness
    await end(harness)
    assert _containers(tmp_path) == []


def _containers(folder: Path) -> list[str]:
    """Return the containers of the worker in this folder; others may run at the same time."""
    found = _podman()
    assert isinstance(found, Podman)
    return [name for name in found.names() if mark(str(folder / "worker")) in name]


async def test_a_job_runs_in_its_image_with_its_own_box(
    harness: AgentHarness, repository: Path
) -> None:
    finished = await harness.run(
        "cat /release file; id -u; touch made ~/made /tmp/made; pwd",
        'rev $KEY; echo; echo "$LINES_TWO|$PASSWORD" | rev; echo it\\\'s; exit 6',
        image=IMAGE,
        repository=str(repository),
        environment={"LINES_TWO": "a\nb'c"},
        secrets=(JobSecret("KEY", "canary-1", file=True), JobSecret("PASSWORD", "canary-2")),
        show_commands=True,
    )
    said = harness.log().decode()
    assert (finished.result, finished.exit_status) == (Result.FAILED, 6), (finished, said)
    assert "tiny\nsecond\n0\n/box/workspace\n" in said
    assert "1-yranac\n" in said and "2-yranac|c'b" in said and "canary" not in said
    assert "+ cat /release file" in said
    await harness.agent.reconcile([])
    await eventually(lambda: not list(harness.folder.glob("w*")))


async def test_podman_itself_has_none_of_the_jobs_variables(harness: AgentHarness) -> None:
    variables = {"LD_PRELOAD": "/none.so", "CONTAINERS_CONF": "/none", "PATH": "/none:/bin"}
    finished = await harness.run("env; exit 0", environment=variables, image=IMAGE)
    said = harness.log().decode()
    assert finished.result is Result.PASSED
    assert "ERROR" not in said and "LD_PRELOAD=/none.so\n" in said and "PATH=/none:/bin\n" in said


async def test_a_container_does_not_get_the_workers_proxies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their URLs may have a password. Jobs without an image do not get them, either."""
    monkeypatch.setenv("https_proxy", "http://worker:canary@127.0.0.1:9")
    _podman.cache_clear()
    harness = _harness(tmp_path / "worker")
    _podman.cache_clear()
    await harness.agent.start()
    await harness.run("env; echo that was all", image=IMAGE)
    said = harness.log()
    await end(harness)
    assert b"that was all" in said and b"canary" not in said


async def test_an_image_that_is_not_there_is_the_jobs_failure(harness: AgentHarness) -> None:
    finished = await harness.run("true", image="localhost/no-such-image:1")
    assert finished.result is Result.FAILED and not finished.not_begun
    assert str(finished.reason).startswith("cannot start the image: ")
    assert harness.agent.problem is None
    finished = await harness.run_also(2, "exit 125", image=IMAGE)
    assert finished.reason == "exit status 125"


async def test_a_stop_leaves_the_grace_and_then_nothing(harness: AgentHarness) -> None:
    """The shell is the first process: only a handler lets it see the signal."""
    script = "trap 'echo cleaned; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    wanted = assigned(1, script, image=IMAGE)
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED
    assert b"cleaned\n" in harness.log()


async def test_what_ignores_a_stop_is_killed(harness: AgentHarness) -> None:
    harness.agent._driver.__dict__["_stop_grace"] = 0.2
    wanted = assigned(1, "trap '' TERM; echo ready; while :; do sleep 1; done", image=IMAGE)
    await harness.agent.reconcile([wanted])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([attrs.evolve(wanted, stop=True)])
    assert (await harness.end(1)).result is Result.STOPPED


async def test_kills_of_supervisor_and_spawner_leave_no_container(
    harness: AgentHarness, tmp_path: Path
) -> None:
    word = f"45678.{os.getpid()}"
    await harness.agent.reconcile([assigned(1, f"echo ready; sleep {word}", image=IMAGE)])
    await harness.said(1, b"ready")
    assert len(_containers(tmp_path)) == 1
    (supervisor,) = containment.supervisors("w1-1-1", str(harness.folder))
    spawner = harness.agent._driver.__dict__["_spawner"]._process
    os.kill(spawner.pid, signal.SIGKILL)
    os.kill(supervisor, signal.SIGKILL)
    await harness.restart()
    await harness.agent.reconcile([assigned(1, "true", image=IMAGE)])
    finished = await harness.end(1)
    assert str(finished.reason).startswith("lost")
    assert _containers(tmp_path) == []
    done = subprocess.run(["pgrep", "-f", f"^sleep {word}"], check=False)  # noqa: ASYNC221
    assert done.returncode == 1


async def test_what_an_earlier_agent_left_is_removed_at_the_start(tmp_path: Path) -> None:
    harness = _harness(tmp_path / "worker")
    found = harness.options["images"].podman
    name = f"boxsched-{mark(str(tmp_path / 'worker'))}-w9-1-1"
    begin = [*found.command, "create", *found.options, "--name", name, "--label", "boxsched=x"]
    subprocess.run([*begin, IMAGE, "/bin/sh"], check=True, capture_output=True)  # noqa: ASYNC221
    assert _containers(tmp_path) == [name]
    await harness.agent.start()
    await eventually(lambda: _containers(tmp_path) == [])
    await end(harness)


async def test_limits_of_memory_and_processes(tmp_path: Path) -> None:
    if isinstance(found := _podman(limited=True), str):
        pytest.skip(found)
    harness = _harness(tmp_path / "worker", Limits(memory=MEMORY, processes=60))
    await harness.agent.start()
    allocate = "head -c 500000000 /dev/zero | tail > /tmp/x; exit $?"
    finished = await harness.run(allocate, image=IMAGE)
    assert finished.result is Result.FAILED
    assert str(finished.reason).endswith("memory limit of 64 MiB"), "podman may not know it"
    bomb = "for i in 1 2 3 4 5 6 7 8 9 10; do for j in 1 2 3 4 5 6 7 8; do sleep 9 & done; done"
    finished = await harness.run_also(2, f"{bomb}; exit 0", image=IMAGE)
    assert finished.result is Result.FAILED
    await end(harness)
