"""What holds the processes of a job together, so that all of them can be ended.

A cgroup (v2) where one may be made, else descent: the supervisor is child subreaper, so whatever
detaches itself from the job becomes its child. After a supervisor's own death: the cgroup, and
processes that carry the attempt's environment. Imported by the spawner.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Collection

from boxsched.worker.supervisor.safe_files import NO_DESCRIPTOR

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_TITLE_BYTES = 15
_OOM_SCORE_OF_A_JOB = b"500"  # when memory ends, a job goes before the service

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int | bytes) -> None:
    if _libc is not None and _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def adopt_orphans(name: str) -> None:
    """For the supervisor: descendants that lose their parent become its own children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_NAME, name.encode()[:_TITLE_BYTES])


def title(attempt: str) -> str:
    """The name of a supervisor's process, which nobody but it can take away."""
    return f"job {attempt}"[:_TITLE_BYTES]


def hide_memory() -> None:
    """No other process of this user may trace this one or read its memory; the superuser may."""
    _prctl(_PR_SET_DUMPABLE, 0)


def confine_self(cgroup: str | None) -> bool:
    """For a child, right before it becomes the job's program; False where it is in no cgroup."""
    contained = cgroup is not None
    _prctl(_PR_SET_DUMPABLE, 1)  # else what is in /proc of it would be the superuser's
    try:
        if cgroup is not None:
            _write(f"{cgroup}/cgroup.procs", b"0")
    except OSError:
        contained = False  # the tree is still found by descent
    with contextlib.suppress(OSError):
        _write("/proc/self/oom_score_adj", _OOM_SCORE_OF_A_JOB)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return contained


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


# --- cgroups --------------------------------------------------------------------------------


def cgroup_base() -> str | None:
    """The cgroup of this process where children of it can be made and killed; else None."""
    if sys.platform != "linux":
        return None
    try:
        base = _own_cgroup()
        if base is None:
            return None
        probe = f"{base}/boxsched-probe-{os.getpid()}"
        os.mkdir(probe)
        usable = os.path.exists(f"{probe}/cgroup.kill")
        os.rmdir(probe)
    except OSError:
        return None
    return base if usable else None


def _own_cgroup() -> str | None:
    with open("/proc/self/cgroup") as lines:
        paths = [line.strip().split(":", 2)[2] for line in lines if line.startswith("0::")]
    if not paths:
        return None
    with open("/proc/self/mountinfo") as lines:
        for line in lines:
            mount, _, source = line.partition(" - ")
            root, point = mount.split()[3:5]
            if source.split()[0] == "cgroup2" and f"{paths[0]}/".startswith(f"{root.rstrip('/')}/"):
                return (point + "/" + paths[0][len(root.rstrip("/")) :].strip("/")).rstrip("/")
    return None


def make_cgroup(path: str) -> bool:
    try:
        os.mkdir(path)
    except FileExistsError:
        kill_cgroup(path)  # of an attempt in a folder that was removed under a living job
    except OSError:
        return False
    return True


def in_use(path: str) -> bool:
    """True while the cgroup has processes."""
    try:
        with open(f"{path}/cgroup.events") as lines:
            return "populated 1\n" in list(lines)
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise
        return False


def kill_cgroup(path: str) -> None:
    with contextlib.suppress(OSError):
        _write(f"{path}/cgroup.kill", b"1")


def remove_cgroup(path: str) -> None:
    """With those that the job made in it. Leaves it where processes are still dying."""
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


# --- Descent --------------------------------------------------------------------------------


def _stat(pid: int | str) -> list[bytes] | None:
    """Fields of /proc/PID/stat behind the name: state, parent, ...; None if it is gone.

    Raises OSError where no descriptor is left: that says nothing about the process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise
        return None


def start_time(pid: int) -> int | None:
    """Ticks since boot; with the pid it names a process for good."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def _pids() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def descendants(root: int) -> list[int]:
    """Every process below ``root``. One look: what forks meanwhile is in the next one."""
    return _below([root], _parents())[1:]


def _parents() -> dict[int, int]:
    found = {}
    for name in _pids():
        fields = _stat(name)
        if fields is not None:
            found[int(name)] = int(fields[1])
    return found


def _below(roots: list[int], parents: dict[int, int]) -> list[int]:
    """These, and every process below them."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found = list(roots)
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, ()))
    return found


def strangers(root: int, known: Collection[int]) -> list[int]:
    """Children of ``root`` that are not among ``known``, with all that is below them."""
    parents = _parents()
    mine = [pid for pid, parent in parents.items() if parent == root and pid not in known]
    return _below(mine, parents)


def supervisors(attempt: str, folder: str) -> list[int]:
    """Processes that have the name of the attempt's supervisor, for an agent of that folder."""
    name = f"{title(attempt)}\n".encode()
    found = []
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/comm", "rb") as file:
                if file.read() != name:
                    continue
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                is_ours = os.fsencode(folder) in file.read().split(b"\0")
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                raise
            continue  # gone
        if is_ours and not _is_dead(pid):
            found.append(int(pid))
    return found


def is_frozen(pid: int) -> bool:
    """Whether somebody has stopped the process (SIGSTOP)."""
    fields = _stat(pid)
    return fields is not None and fields[0] == b"T"


def _is_dead(pid: str) -> bool:
    fields = _stat(pid)
    return fields is None or fields[0] in (b"Z", b"X")


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def carriers(ids: dict[str, str], marks: dict[str, str], below: str) -> list[int]:
    """What is left of a job that nobody watches: processes whose environment has all of ``ids``,
    and that have one of ``marks`` in it or work in the folder ``below``."""
    needed = {f"{name}={value}".encode() for name, value in ids.items()}
    sure = {f"{name}={value}".encode() for name, value in marks.items()}
    found = []
    for pid in _pids():
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                environment = set(file.read().split(b"\0"))
            if needed <= environment and (sure & environment or _works_below(pid, below)):
                found.append(int(pid))
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                raise
            continue  # gone, or another user's
    return found


def _works_below(pid: str, folder: str) -> bool:
    return f"{os.readlink(f'/proc/{pid}/cwd')}/".startswith(f"{folder}/")
