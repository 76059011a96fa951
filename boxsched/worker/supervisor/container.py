"""Run a job's script in a container of podman.

podman runs outside, as the worker does, so nothing of the job may reach its own environment or
options: the job's variables are in a file that a shell in the container reads. All processes of
podman and of the container are descendants of the supervisor. What podman knows of the container is
removed afterwards, by the same podman or by another one.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import os
import time
from collections.abc import Mapping
from typing import NamedTuple

from boxsched.worker.supervisor import containment, safe_files
from boxsched.worker.supervisor.isolation import HOME, SCRIPT, TMP, WORKSPACE

FAILED = 125  # the exit status of podman if it could not start the container
COMPLAINS = b"level=error"  # in podman's messages, such as of a container that it cannot remove
SHELL = "/bin/sh"
REMOVE_SECONDS = 60.0
REMOVE_TRIES, REMOVE_PAUSE_SECONDS = 4, 0.5
KILLED = 137  # the exit status of a shell whose command was killed
LABEL = "boxsched"
VARIABLES = ".variables"  # in the folder of secrets; no secret has such a name
_START = '. "$1"; if command -v bash >/dev/null 2>&1; then exec bash -e "$2"; fi; exec "$0" -e "$2"'


class Container(NamedTuple):
    """``podman``: the program and its options. ``environment``: podman's own. ``options``: of
    ``podman run``. ``name``: of the container. ``mapped``: whether its root is another user here.
    ``goes``: podman removes the container itself when its program has ended.
    """

    podman: list[str]
    environment: dict[str, str]
    options: list[str]
    name: str
    image: str
    mapped: bool = False
    goes: bool = False


def command(container: Container, box: str, secrets: str) -> list[str]:
    """Return what runs the script. ``box``: its path. ``secrets``: the name of their folder."""
    given = "U" if container.mapped else ""
    mounts = [
        (f"{box}/workspace", WORKSPACE, given),
        (f"{box}/home", HOME, given),
        (f"{box}{TMP}", TMP, given),
        (f"{box}/script", SCRIPT, f"ro,{given}".rstrip(",")),
        (f"{box}/{secrets}", f"/box/{secrets}", f"ro,{given}".rstrip(",")),
    ]
    return [
        *container.podman,
        "run",
        *container.options,
        *("--name", container.name),
        *("--label", f"{LABEL}={container.name}"),
        *(word for path, at, how in mounts for word in ("-v", f"{path}:{at}:{how}".rstrip(":"))),
        *("--workdir", WORKSPACE),
        *("--entrypoint", ""),
        container.image,
        *(SHELL, "-c", _START, SHELL, f"/box/{secrets}/{VARIABLES}", SCRIPT),
    ]


def write_variables(box: int, secrets: str, environment: Mapping[str, str]) -> None:
    """Write the job's variables as commands of a shell. Raises OSError."""
    at = safe_files.open_or_make(secrets, box)
    lines = [
        f"export {name}={_quoted(value)}\n"
        for name, value in environment.items()
        if name.isascii() and name.isidentifier()
    ]
    try:
        safe_files.write_file(at, VARIABLES, "".join(lines).encode())
    finally:
        os.close(at)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def ran_out_of_memory(container: Container) -> bool:
    """Whether podman knows that; it does not with every runtime and version of cgroups."""
    said = _podman(container, "inspect", "--format", "{{.State.OOMKilled}}", container.name)
    return said is not None and said.strip() == b"true"


def remove(container: Container) -> None:
    """Kill what is left of the container; remove what podman keeps of it. Blocking."""
    words = ["rm", "--force", "--ignore", "--time", "0", "--volumes", container.name]
    for left in reversed(range(REMOVE_TRIES)):
        if _podman(container, *words) is not None or not left:
            return
        time.sleep(REMOVE_PAUSE_SECONDS)  # its file systems are still in use


def give_back(container: Container, box: str) -> None:
    """Make the worker's user the owner of all files in the Box, if users of the container are."""
    if os.geteuid() != 0:
        _podman(container, "unshare", "chown", "-R", "0:0", box)


def _podman(container: Container, *words: str) -> bytes | None:
    """Return what it says, None if it fails."""
    import subprocess  # large, and not every worker needs it

    try:
        done = subprocess.run(
            [*container.podman, *words],
            env=container.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=REMOVE_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def inside(pids: list[int]) -> list[int]:
    """Return those that are in another PID namespace than this process: the job's own.

    The others are podman's. They pass the end of the job on, and must outlive it.
    """
    ours = containment.pid_namespace(os.getpid())
    return [pid for pid in pids if containment.pid_namespace(pid) not in (None, ours)]
