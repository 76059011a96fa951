"""The isolation of a job with bubblewrap: the files, processes and users that it sees.

A job can read the system's files, and write only ``workspace``, ``home`` and ``tmp`` of its Box. It
does not see the attempt's folder, the data folder or other files of the machine. It cannot write
the rest of the Box, such as the script and the secrets.

A supervisor that runs as root changes to the job's user before it starts bubblewrap, which would
otherwise keep root's rights to files. That user may not even reach the data folder, so the
supervisor first mounts the Box on STAGE, in its own mount namespace.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import ctypes
import errno
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from boxsched.worker.supervisor import safe_files

# Paths inside.
BOX = "/box"
WORKSPACE, HOME, SCRIPT, TMP = f"{BOX}/workspace", f"{BOX}/home", f"{BOX}/script", "/tmp"  # noqa: S108
REPOSITORY = f"{BOX}/repository"  # one on this machine, for the git steps that read it
GIT_CONFIG = f"{BOX}/gitconfig"
IMAGE = "image"  # the place in the Box where root mounts an image
MARK = "BOXSCHED_BOX"  # environment variable of bubblewrap's own processes: the attempt's folder

STAGE = "/sys"  # exists everywhere; jobs do not see the real one
STATUS_BYTES = 4_096
_CLONE_NEWNS = 0x0002_0000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x4_0000

# The repository belongs to another user than git. What git could run of it, it runs as the job.
_GIT_CONFIG = b"[safe]\n\tdirectory = *\n"

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


class NotIsolated(Exception):
    """bubblewrap cannot start the job here; the message is its own."""


class Isolation(NamedTuple):
    """``arguments``: bubblewrap and its options that are the same for all jobs.

    ``late``: options that must follow those of the Box, because they may be about paths in /tmp.
    ``uid``, ``gid``: the user of jobs, if the supervisor is root; otherwise jobs run as the
    supervisor's user. ``server``: what the server of an SSH session needs to see in addition, and
    ``server_late``: options that hide parts of that. ``repositories``: whether git sees a
    repository on this machine that the worker can read. ``readable``: what jobs see of the machine.
    ``hidden``: what they never see; ``data``, the worker's data folder, is among it. ``image``: the
    folder whose system the job sees; None: the worker's own.
    """

    arguments: list[str]
    late: list[str]
    uid: int | None = None
    gid: int | None = None
    server: Sequence[str] = ()
    server_late: Sequence[str] = ()
    repositories: bool = False
    readable: list[str] = []  # noqa: RUF012 -- a default of a NamedTuple, never changed
    hidden: list[str] = []  # noqa: RUF012
    data: str | None = None
    image: str | None = None

    def give(self, descriptor: int) -> None:
        """Make the user of jobs the owner of a file, folder or pipe."""
        if self.uid is not None and self.gid is not None:
            os.fchown(descriptor, self.uid, self.gid)


def options(
    walls: Isolation,
    box: str,
    status: int,
    secrets: str,
    environment: Mapping[str, str],
    paths: Sequence[str] = (),
    covers: Sequence[str] = (),
    repository: str | None = None,
) -> int:
    """Write bubblewrap's options into a file in memory; return its descriptor. Raises OSError.

    ``box``: the path of the Box. ``status``: the descriptor for bubblewrap's messages. ``secrets``:
    the name of the folder with secrets. ``environment``: the program's. It is no environment of
    bubblewrap itself, where LD_PRELOAD would run the job's code outside; and no argument, which
    everyone on the machine can read. ``paths``: further files and folders that the program sees,
    and ``covers``: options that hide parts of them. ``repository``: one on this machine that it
    sees; not together with ``paths``.
    """
    at, *sources = _staged(walls, box, paths)
    words = [
        *walls.arguments[1:],
        *("--bind", f"{at}{TMP}", TMP),
        *(word for pair in zip(sources, paths, strict=True) for word in ("--ro-bind", *pair)),
        *("--bind", f"{at}/workspace", WORKSPACE),
        *("--bind", f"{at}/home", HOME),
        *("--ro-bind", f"{at}/script", SCRIPT),
        *("--ro-bind-try", f"{at}/{secrets}", f"{BOX}/{secrets}"),
        *("--ro-bind-try", f"{at}/gitconfig", GIT_CONFIG),
        *_repository(walls, repository),
        *walls.late,
        *covers,
        *("--remount-ro", "/"),
        *("--unsetenv", MARK),
        *(word for item in environment.items() for word in ("--setenv", *item)),
        *("--chdir", WORKSPACE),
        *("--json-status-fd", str(status)),
    ]
    if any("\0" in word for word in words) or any(not n or "=" in n for n in environment):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    file = os.memfd_create("options", os.MFD_CLOEXEC)
    try:
        safe_files.write_all(file, b"".join(os.fsencode(word) + b"\0" for word in words))
        os.lseek(file, 0, os.SEEK_SET)
    except ValueError:
        os.close(file)
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
    except OSError:
        os.close(file)
        raise
    return file


def _staged(walls: Isolation, box: str, paths: Sequence[str]) -> list[str]:
    """Return where bubblewrap finds the Box and the paths; see ``change_user``."""
    if walls.uid is None:
        return [box, *paths]
    return [f"{STAGE}/{n}" for n in range(len(paths) + 1)] if paths else [STAGE]


def _repository(walls: Isolation, path: str | None) -> list[str]:
    if path is None:
        return []
    return ["--ro-bind", path if walls.uid is None else f"{STAGE}/repository", REPOSITORY]


def command(walls: Isolation, file: int, argv: list[str]) -> list[str]:
    """Return what starts the program inside. ``file``: the descriptor from ``options``."""
    return [walls.arguments[0], "--args", str(file), "--", *argv]


NO_WALLS = Isolation([], [])


def furnish(walls: Isolation, at: int, box: int) -> None:
    """Move the script from the attempt's folder into the Box. Give all to the job's user."""
    script = os.path.basename(SCRIPT)
    os.rename(script, script, src_dir_fd=at, dst_dir_fd=box)
    safe_files.write_file(box, os.path.basename(GIT_CONFIG), _GIT_CONFIG)
    for name in (os.path.basename(REPOSITORY), IMAGE):
        os.mkdir(name, 0o700, dir_fd=box)
    for name in os.listdir(box):
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=box)
        try:
            walls.give(descriptor)
        finally:
            os.close(descriptor)
    walls.give(box)


def change_user(
    walls: Isolation, box: str, paths: Sequence[str] = (), repository: str | None = None
) -> None:
    """Mount the Box on STAGE and give up root's rights, in the child. Raises OSError.

    ``box``: its path. A descriptor from another mount namespace cannot be mounted. ``paths``:
    further files and folders that the user may not reach; then all are mounted below STAGE.
    ``repository``: also mounted, as an image is, in a folder of the Box.
    """
    if walls.uid is None or walls.gid is None or _libc is None:
        return
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None), "mount /")
    if paths:
        _check(_libc.mount(b"none", STAGE.encode(), b"tmpfs", 0, b"mode=755"), f"mount {STAGE}")
    for source, place in zip((box, *paths), _staged(walls, box, paths), strict=True):
        if paths:
            _make_place(source, place)
        _bind(source, place)
    if repository is not None:
        _bind(repository, f"{STAGE}/repository")
    if walls.image is not None:
        _bind(walls.image, f"{STAGE}/{IMAGE}")
    os.setgroups([])
    os.setresgid(walls.gid, walls.gid, walls.gid)
    os.setresuid(walls.uid, walls.uid, walls.uid)


def _make_place(source: str, place: str) -> None:
    if os.path.isdir(source):
        os.mkdir(place)
    else:
        os.close(os.open(place, os.O_CREAT | os.O_WRONLY))


def _bind(path: str, place: str) -> None:
    assert _libc is not None
    _check(_libc.mount(os.fsencode(path), place.encode(), None, _MS_BIND, None), f"mount {place}")


def _check(returned: int, what: str) -> None:
    if returned != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Monitor:
    """bubblewrap's outermost process, which waits for the job, and its output.

    It ends when the job's first process ends; then the kernel kills the other processes. At a stop
    they must have their grace, so ``hold`` stops this process until the others have ended.
    """

    def __init__(self) -> None:
        self.pid = 0
        self.inner = -1  # a pidfd of the process that is 1 inside; it ends when no other is left
        self._said = b""
        self._pipe, self.status = os.pipe()
        os.set_blocking(self._pipe, False)

    def close_status(self) -> None:
        """Close our copy of bubblewrap's end."""
        os.close(self.status)

    def hold(self) -> bool:
        """Stop it, unless the job ends now or has not begun. Return whether ``inner`` is open."""
        pids = [said["child-pid"] for said in self._messages() if "child-pid" in said]
        if self.inner >= 0 or not pids or not isinstance(pids[0], int) or sys.platform != "linux":
            return False
        try:
            self.inner = os.pidfd_open(pids[0])
        except OSError:
            return False
        os.kill(self.pid, signal.SIGSTOP)
        return True

    def let_go(self) -> None:
        """Let it end: no other process is left. The caller has not reaped it."""
        os.kill(self.pid, signal.SIGCONT)
        os.close(self.inner)
        self.inner = -1

    def has_failed(self) -> bool:
        """Whether bubblewrap could not start the program. Call it after it ended by itself."""
        return not any("exit-code" in said for said in self._messages())

    def _messages(self) -> list[dict[str, object]]:
        with contextlib.suppress(BlockingIOError):
            while len(self._said) < STATUS_BYTES and (part := os.read(self._pipe, STATUS_BYTES)):
                self._said += part
        found = []
        for line in self._said.splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [each for each in found if isinstance(each, dict)]

    def close(self) -> None:
        for descriptor in (self._pipe, self.inner):
            if descriptor >= 0:
                os.close(descriptor)
        self._pipe = self.inner = -1
