"""How this worker runs jobs in images with podman, and whether it can.

As root, containers have a user namespace: root inside is an ordinary user outside.
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Collection, Iterator

import attrs

from boxsched.worker.agent.repository import JOB_PATH, program
from boxsched.worker.supervisor.container import LABEL, Container, remove
from boxsched.worker.supervisor.limits import Limits

RUNTIMES = ("crun", "runc")
PROBE_SECONDS = 120.0
LIST_SECONDS = 60.0
FIRST_UID, UIDS = 100_000, 65_536  # users outside of those inside, where the worker is root
# podman's own values may be above what this process may have.
OPEN_FILES, PROCESSES = 4_096, 4_096
REMOVE = "--rm"
_KEPT = (
    "HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "CONTAINERS_CONF",
    "CONTAINERS_STORAGE_CONF", "CONTAINERS_REGISTRIES_CONF", "REGISTRY_AUTH_FILE", "TMPDIR",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip


@attrs.frozen
class Podman:
    """``options``: of ``podman run``, the same for all jobs."""

    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    options: tuple[str, ...]

    def container(self, name: str, image: str, pull: str = "missing") -> Container:
        options = [*self.options, f"--pull={pull}"]
        mapped = os.geteuid() == 0
        command = list(self.command)
        goes = REMOVE in options
        return Container(command, dict(self.environment), options, name, image, mapped, goes)

    def names(self) -> list[str]:
        """Return the names of all containers of jobs. Blocking."""
        words = ["ps", "--all", "--filter", f"label={LABEL}", "--format", "json"]
        try:
            done = subprocess.run(
                [*self.command, *words],
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LIST_SECONDS,
                check=True,
            )
            return [one["Names"][0] for one in json.loads(done.stdout) if one.get("Names")]
        except (OSError, subprocess.SubprocessError, ValueError, LookupError):
            return []


def podman(*, network: bool, limits: Limits) -> Podman | str:
    """Return how containers are run here, or why that is impossible. Blocking."""
    path = program("podman")
    if not os.access(path, os.X_OK):
        return "podman is not installed"
    said = "neither crun nor runc is installed"
    for runtime in RUNTIMES:
        if shutil.which(runtime, path=JOB_PATH) is None:
            continue
        found = Podman(
            (path, "--runtime", runtime, *_manager()),
            tuple(_environment().items()),
            tuple(_options(network, limits)),
        )
        problem = _why_not(found)
        if problem is None:
            return found
        said = f"podman with {runtime}: {problem}"
    return said


def _manager() -> Iterator[str]:
    if not os.path.isdir("/run/systemd/system"):
        yield from ("--cgroup-manager", "cgroupfs")


def _environment() -> dict[str, str]:
    return {"PATH": JOB_PATH} | {name: os.environ[name] for name in _KEPT if name in os.environ}


def _options(network: bool, limits: Limits) -> Iterator[str]:
    yield from ("--ulimit", f"nofile={OPEN_FILES}:{OPEN_FILES}")
    yield from ("--ulimit", f"nproc={PROCESSES}:{PROCESSES}")
    yield from ("--ulimit", "core=0:0")
    yield from ("--security-opt", "no-new-privileges")
    if limits.memory is None:  # else podman is asked afterwards whether memory ran out
        yield REMOVE
    yield "--http-proxy=false"  # podman's own proxies, which may have a password, are not the job's
    yield from ("--log-driver", "none")
    yield from ("--network", "host" if network else "none")
    if os.geteuid() == 0:
        yield from ("--uidmap", f"0:{FIRST_UID}:{UIDS}", "--gidmap", f"0:{FIRST_UID}:{UIDS}")
    if limits.memory is not None:
        yield from ("--memory", str(limits.memory), "--memory-swap", str(limits.memory))
    if limits.cpus is not None:
        yield from ("--cpus", f"{limits.cpus:g}")
    if limits.processes is not None:
        yield from ("--pids-limit", str(limits.processes))
    if limits.disk is not None:
        yield from ("--ulimit", f"fsize={limits.disk}:{limits.disk}")


def _why_not(found: Podman) -> str | None:
    """Run a program that does nothing, in a container with the system of this machine."""
    folder = tempfile.mkdtemp(prefix="boxsched-")
    options = [REMOVE, *(one for one in found.options if one != REMOVE)]
    try:
        os.chmod(folder, 0o755)  # noqa: S103 -- users of the container read it
        for name in ("usr", "proc", "dev", "sys", "etc", "tmp", "run"):
            os.mkdir(f"{folder}/{name}")
        for name in ("bin", "sbin", "lib", "lib64"):
            os.symlink(f"usr/{name}", f"{folder}/{name}")
        if os.geteuid() == 0:  # podman makes files in it, as root inside
            for place in (folder, *(f"{folder}/{name}" for name in os.listdir(folder))):
                os.chown(place, FIRST_UID, FIRST_UID, follow_symlinks=False)
        done = subprocess.run(
            [
                *(*found.command, "run", *options, "-v", "/usr:/usr:ro"),
                *("--rootfs", folder, "/usr/bin/true"),
            ],
            env=dict(found.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    text = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    if done.returncode == 0 and "ignored" not in text:  # such as: limits are ignored
        return None
    return "".join(char if char.isprintable() else "?" for char in text)[:200] or "it says nothing"


def remove_left(found: Podman, mark: str, known: Collection[str]) -> list[str]:
    """Remove containers that jobs of this worker left, but for the ``known``. Blocking.

    ``mark``: what the names of its containers contain. Return their names.
    """
    prefix = f"boxsched-{mark}-"
    left = [name for name in found.names() if name.startswith(prefix) and name not in known]
    for name in left:
        remove(found.container(name, ""))
    return left
