"""Limits of a worker that is an ordinary user, in cgroups that were given to this user."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import attrs
import pytest

from boxsched.worker.agent import limiting
from boxsched.worker.supervisor import containment, limits
from tests.service.running_service import RunningService, job
from tests.worker.conftest import needs_limits

PROJECT = Path(__file__).resolve().parents[2]
USER = 65_534
PATIENCE_SECONDS = 60.0
LIMITS = ("--memory", "128M", "--cpus", "1", "--processes", "40")
ALLOCATE = "head -c 1000000000 /dev/zero | tail > /dev/null || exit $?"
FORK = 'perl -e \'for (1..100) { defined(my $p = fork) or exit 3; $p or exec "sleep", "9" }\''
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
# Moves itself into the cgroups of its first argument, then becomes the user.
ENTER = 'for one in $1; do echo $$ > "$one/cgroup.procs" || exit; done; shift; exec "$@"'
# It must also be able to start itself again: setpriv starts what only root can reach.
TRY = (
    "import boxsched.worker.remote.worker, subprocess, sys;"
    " subprocess.run([sys.executable, '-c', ''], check=True)"
)

pytestmark = [
    needs_limits,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give cgroups to a user"),
]


@attrs.frozen
class User:
    """``python``: one that this user can run. ``cgroups``: those given to it."""

    python: str
    cgroups: Sequence[str]
    environment: dict[str, str]

    async def worker(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *("sh", "-c", ENTER, "sh", " ".join(self.cgroups), *AS_USER, self.python),
            *("-m", "boxsched", "worker", *arguments, *LIMITS),
            env=self.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


@pytest.fixture
def tmp_path(reachable_folder: Path) -> Path:
    return reachable_folder


@pytest.fixture
def user(tmp_path: Path) -> Iterator[User]:
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, USER, USER)
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": os.pathsep.join([str(PROJECT), *libraries]),
    }
    version = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, version):
        with contextlib.suppress(OSError):
            command = [*AS_USER, python, "-c", TRY]
            if subprocess.run(command, env=environment, capture_output=True).returncode == 0:
                yield User(python, (), environment)
                return
    pytest.skip("the user can run no Python that has these libraries")


@pytest.fixture
def delegated(user: User) -> Iterator[User]:
    """The user with a cgroup of each controller, as an administrator makes them with v1."""
    made = []
    for controller in limiting.CONTROLLERS.values():
        base = containment.cgroup_folder(controller)
        if base is None:
            pytest.skip("cgroup v1 does not have these controllers here")
        path = Path(base, f"boxsched-test-{os.getpid()}")
        path.mkdir()
        made.append(str(path))
        for one in (path, *path.iterdir()):
            os.chown(one, USER, USER)
    yield attrs.evolve(user, cgroups=made)
    for path in map(Path, made):
        for folder in sorted((path, *path.rglob("*/")), reverse=True):
            for pid in limits.processes_in(str(folder)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    limits.remove(made)


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        yield service


async def options(service: RunningService, tmp_path: Path) -> tuple[str, ...]:
    made = (await service.call("POST", "/api/v1/tokens", {"role": "worker"})).json
    token = tmp_path / "home/token"
    token.write_text(made["token"])
    os.chown(token, USER, USER)
    token.chmod(0o600)
    folder = str(tmp_path / "home/worker")
    where = ("--url", service.url, "--token-file", str(token), "--data", folder)
    return (*where, "--name", "of-a-user", "--boxes", "1", "--box-driver", "process")


async def test_the_limits_of_a_user_with_cgroups_are_enforced_and_shown(
    service: RunningService, delegated: User, tmp_path: Path
) -> None:
    worker = await delegated.worker(*await options(service, tmp_path))
    try:
        assert worker.stdout is not None
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert (await worker.stdout.readline()).startswith(b"connected to ")
        (shown,) = (await service.get("/workers"))["workers"]
        said = dict(part.split("=", 1) for part in shown["fingerprint"].split(", "))
        assert (said["memory"], said["cpus"], said["processes"]) == ("128M", "1", "40")
        for script, reason in (
            (ALLOCATE, "memory limit of 128 MiB"),
            (FORK, "exit status 3, limit of 40 processes"),
            ("id -u; exit 4", "exit status 4"),
        ):
            await service.project("web", jobs=[job("one", script)])
            done = await service.finished((await service.build())["id"])
            assert done["jobs"][0]["reason"] == reason, done
    finally:
        worker.terminate()
        await worker.communicate()


async def test_a_user_without_cgroups_is_told_that_it_cannot_limit(
    service: RunningService, user: User, tmp_path: Path
) -> None:
    worker = await user.worker(*await options(service, tmp_path))
    async with asyncio.timeout(PATIENCE_SECONDS):
        _, said = await worker.communicate()
    assert worker.returncode == 1
    assert b"boxsched: --memory: it cannot be enforced here: Permission denied: " in said
    assert b"run this command as root, or as " in said and b"or omit --memory" in said
    assert (await service.get("/workers"))["workers"] == []
