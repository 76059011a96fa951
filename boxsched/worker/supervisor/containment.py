"""Find and end all processes of a job.

Each job has a cgroup (v2), where the worker can make one. In any case the supervisor is a child
subreaper, so a process that detaches itself from the job becomes the supervisor's child. If the
supervisor has died, the job's processes are found by the cgroup and by the attempt's environment.
Imported by the spawner.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Collection

from boxsched.worker.supervisor import limits as limiting
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits
from boxsched.worker.supervisor.safe_files import NO_DESCRIPTOR

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NAME = 1, 4, 15
_PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 36, 38
_TITLE_BYTES = 15
_OOM_SCORE_OF_A_JOB = b"500"  # when memory runs out, jobs are killed before the service

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _prctl(option: int, value: int | bytes) -> None:
    if _libc is not None and _libc.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option}")


def adopt_orphans(name: str) -> None:
    """Make this process a subreaper: descendants that lose their parent become its children."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_NAME, name.encode()[:_TITLE_BYTES])


def title(attempt: str) -> str:
    """Return the name of a supervisor's process; no other process can change it."""
    return f"job {attempt}"[:_TITLE_BYTES]


def hide_memory() -> None:
    """Forbid other processes, except the superuser's, to trace this one or read what it has.

    That is its memory, its environment and its open files. Children have this too, until exec.
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def confine_self(cgroup: str | None, limits: Limits = NO_LIMITS) -> bool:
    """Confine a child before it becomes the job's program; return whether it is in its cgroup.

    Raises OSError if it cannot be limited.
    """
    contained = cgroup is not None
    _prctl(_PR_SET_DUMPABLE, 1)  # otherwise the superuser would own its files in /proc
    try:
        if cgroup is not None:
            _write(f"{cgroup}/cgroup.procs", b"0")
    except OSError:
        contained = False  # its processes are still found as descendants
    limiting.enter(limits)
    with contextlib.suppress(OSError):
        _write("/proc/self/oom_score_adj", _OOM_SCORE_OF_A_JOB)
    die_with_parent()
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    return contained


def tie_to_parent() -> None:
    """Let a child of ours, which runs the job's program elsewhere, end with this process."""
    _prctl(_PR_SET_DUMPABLE, 1)
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def die_with_parent() -> None:
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


# --- cgroups --------------------------------------------------------------------------------


LEAF = "boxsched-worker"  # the worker's own, where its parent has those of jobs


def cgroup_base() -> str | None:
    """Return this process's cgroup if children of it can be made and killed, otherwise None."""
    if sys.platform != "linux":
        return None
    try:
        base = own_cgroup()
        if base is None:
            return None
        probe = f"{base}/boxsched-probe-{os.getpid()}"
        os.mkdir(probe)
        usable = os.path.exists(f"{probe}/cgroup.kill")
        os.rmdir(probe)
    except OSError:
        return None
    return base if usable else None


def own_cgroup(proc: str = "/proc/self") -> str | None:
    """Return the folder of this process's cgroup (v2); of one named LEAF, its parent.

    Raises OSError.
    """
    found = cgroup_folder("", proc)
    return found and found.removesuffix(f"/{LEAF}")


def cgroup_folder(controller: str, proc: str = "/proc/self") -> str | None:
    """Return the folder of this process's cgroup in the hierarchy of a controller (v1).

    With "": in the one hierarchy of v2. Raises OSError.
    """
    with open(f"{proc}/cgroup") as lines:
        found = [line.rstrip("\n").split(":", 2) for line in lines]
    paths = [path for _, controllers, path in found if controller in controllers.split(",")]
    if not paths:
        return None
    with open(f"{proc}/mountinfo") as lines:
        for line in lines:
            mount, _, source = line.partition(" - ")
            root, point = mount.split()[3:5]
            kind, _, options = source.split()[:3]
            ours = kind == "cgroup" and controller in options.split(",")
            if not ours and not (kind == "cgroup2" and not controller):
                continue
            if f"{paths[0]}/".startswith(f"{root.rstrip('/')}/"):
                return (point + "/" + paths[0][len(root.rstrip("/")) :].strip("/")).rstrip("/")
    return None


def make_cgroup(path: str) -> bool:
    try:
        os.mkdir(path)
    except FileExistsError:
        kill_cgroup(path)  # its attempt's folder was removed while the job was running
    except OSError:
        return False
    return True


def in_use(path: str) -> bool:
    """Whether the cgroup has processes. Raises OSError if no descriptor is left."""
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
    """Remove the cgroup and all below it. It stays while it has processes that are still dying."""
    for folder, _, _ in os.walk(path, topdown=False):
        with contextlib.suppress(OSError):
            os.rmdir(folder)


# --- Descendants ----------------------------------------------------------------------------


def _stat(pid: int | str) -> list[bytes] | None:
    """Return the fields of /proc/PID/stat after the name: state, parent, ...; None if it is gone.

    Raises OSError if no descriptor is left: then nothing is known about the process.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError as error:
        if error.errno in NO_DESCRIPTOR:
            raise
        return None


def start_time(pid: int) -> int | None:
    """Return a process's start in ticks since boot, None if it is gone.

    Pid and start time together identify a process.
    """
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def _pids() -> list[str]:
    try:
        return [name for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def descendants(root: int) -> list[int]:
    """Return every process below ``root``. A process that forks at the same time may be missing."""
    return _below([root], _parents())[1:]


def _parents() -> dict[int, int]:
    found = {}
    for name in _pids():
        fields = _stat(name)
        if fields is not None:
            found[int(name)] = int(fields[1])
    return found


def _below(roots: list[int], parents: dict[int, int]) -> list[int]:
    """Return the roots and every process below them."""
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    found = list(roots)
    for pid in found:  # grows while it is walked
        found.extend(children.get(pid, ()))
    return found


def unknown_children(root: int, known: Collection[int]) -> list[int]:
    """Return the children of ``root`` that are not in ``known``, and every process below them."""
    parents = _parents()
    mine = [pid for pid, parent in parents.items() if parent == root and pid not in known]
    return _below(mine, parents)


def supervisors(attempt: str, folder: str) -> list[int]:
    """Return the processes named as the attempt's supervisor, started by an agent of ``folder``."""
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


def pid_namespace(pid: int) -> str | None:
    """Return the name of a process's PID namespace; None if it is gone or another user's."""
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return None


def is_frozen(pid: int) -> bool:
    """Whether the process is stopped (SIGSTOP)."""
    fields = _stat(pid)
    return fields is not None and fields[0] == b"T"


def _is_dead(pid: str) -> bool:
    fields = _stat(pid)
    return fields is None or fields[0] in (b"Z", b"X")


def send(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def marked_processes(ids: dict[str, str], marks: dict[str, str], below: str) -> list[int]:
    """Return the remaining processes of a job without a supervisor.

    Their environment has all of ``ids``. It also has one of ``marks``, or they work in the folder
    ``below``.
    """
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
