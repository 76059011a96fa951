"""The limits of a job: memory, processors, processes and disk.

The kernel enforces the first three, by cgroups. A job has one cgroup (v2), or one in the hierarchy
of each controller (v1). The agent says which, and what to write into their files: see
``agent/limiting.py``. Of the disk, the kernel limits the size of single files, and the supervisor
measures the Box now and then: see ``disk_watch.py``.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import os
import resource
import signal
from collections.abc import Sequence
from typing import NamedTuple

PROCS = "cgroup.procs"
MEMORY, CPUS, PROCESSES, DISK = "memory", "cpus", "processes", "disk"
_GIB, _MIB = 1 << 30, 1 << 20
# The end of a program that writes a too large file, and of a shell whose command did.
_TOO_LARGE = (-signal.SIGXFSZ, 128 + signal.SIGXFSZ)


class Setting(NamedTuple):
    """A value for a file of a cgroup. ``required``: without the file there is no limit."""

    file: str
    value: str
    required: bool = True


class Counter(NamedTuple):
    """The file of a cgroup, and the word in it before the number of times a limit was reached."""

    limit: str
    file: str
    word: str


class Group(NamedTuple):
    """A cgroup: its path, and what to write into it. A job has its own below such a path."""

    path: str
    settings: list[Setting]
    counters: list[Counter]


class Limits(NamedTuple):
    """``memory`` and ``disk``: bytes. None: no limit. ``groups``: the job's cgroups."""

    memory: int | None = None
    cpus: float | None = None
    processes: int | None = None
    disk: int | None = None
    groups: list[Group] = []  # noqa: RUF012 -- a default of a NamedTuple, never changed

    def below(self, name: str) -> "Limits":
        """Return the limits with the job's own cgroups, which are below those of the agent."""
        groups = [group._replace(path=f"{group.path}/{name}") for group in self.groups]
        return self._replace(groups=groups)

    @property
    def paths(self) -> list[str]:
        return [group.path for group in self.groups]


NO_LIMITS = Limits()


def read(values: list[object]) -> Limits:
    """Return the limits from JSON values. Raises TypeError, ValueError."""
    limits = Limits(*values)  # type: ignore[arg-type]
    groups = [
        Group(path, [Setting(*one) for one in settings], [Counter(*one) for one in counters])
        for path, settings, counters in limits.groups
    ]
    return limits._replace(groups=groups)


# --- cgroups --------------------------------------------------------------------------------


def make(limits: Limits) -> None:
    """Make the job's cgroups with their limits. Raises OSError."""
    for group in limits.groups:
        with contextlib.suppress(FileExistsError):  # it is its cgroup for containment, too
            os.mkdir(group.path)
        for setting in group.settings:
            try:
                write(f"{group.path}/{setting.file}", setting.value)
            except OSError:
                if setting.required:
                    raise


def write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def enter(limits: Limits) -> None:
    """Move this process, a child before exec, into the job's cgroups. Raises OSError."""
    for path in limits.paths:
        write(f"{path}/{PROCS}", "0")
    if limits.disk is not None:
        most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        size = limits.disk if most == resource.RLIM_INFINITY else min(limits.disk, most)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def processes_in(path: str) -> list[int]:
    """Return the processes in the cgroup; none if it does not exist."""
    try:
        with open(f"{path}/{PROCS}") as lines:
            return [int(line) for line in lines if line.strip() not in ("", "0")]
    except (OSError, ValueError):
        return []


def remove(paths: Sequence[str]) -> None:
    """Remove cgroups. One that still has processes stays."""
    for path in paths:
        for folder, _, _ in os.walk(path, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def times_reached(limits: Limits, limit: str) -> int:
    """Return how many times the job has reached ``limit``."""
    for group in limits.groups:
        for counter in group.counters:
            if counter.limit == limit:
                return _count(f"{group.path}/{counter.file}", counter.word)
    return 0


def reached(limits: Limits, status: int | None) -> list[str]:
    """Return texts about the limits that the job has reached, the decisive one first.

    ``status``: of its step; negative: a signal.
    """
    found = []
    if limits.memory is not None and times_reached(limits, MEMORY):
        found.append(memory_text(limits))
    if limits.disk is not None and status in _TOO_LARGE:
        found.append(disk_text(limits))
    if limits.processes is not None and times_reached(limits, PROCESSES):
        found.append(f"limit of {limits.processes} processes")
    return found


def _count(path: str, word: str) -> int:
    try:
        with open(path) as lines:
            found = [line.split() for line in lines]
        return sum(int(words[1]) for words in found if len(words) == 2 and words[0] == word)
    except (OSError, ValueError):
        return 0


# --- Texts ----------------------------------------------------------------------------------


def size_text(size: int) -> str:
    """``2 GiB``, ``1.5 GiB``, ``300 MiB``."""
    unit, name = (_GIB, "GiB") if size >= _GIB else (_MIB, "MiB")
    return f"{round(size / unit, 2):g} {name}"


def memory_text(limits: Limits) -> str:
    assert limits.memory is not None
    return f"memory limit of {size_text(limits.memory)}"


def disk_text(limits: Limits) -> str:
    assert limits.disk is not None
    return f"disk limit of {size_text(limits.disk)}"


def described(limits: Limits) -> str:
    """Return the limits as the end of a sentence; "" if there are none."""
    parts = []
    if limits.memory is not None:
        parts.append(f"{size_text(limits.memory)} of memory")
    if limits.cpus is not None:
        parts.append(f"{limits.cpus:g} processors")
    if limits.processes is not None:
        parts.append(f"{limits.processes} processes")
    if limits.disk is not None:
        parts.append(f"{size_text(limits.disk)} of disk")
    return ", ".join(parts)
