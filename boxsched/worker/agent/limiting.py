"""How this worker limits jobs: the cgroups that it uses, and whether the kernel enforces them.

With cgroup v2, controllers must be enabled for the children of a cgroup, which then must have no
processes of its own. So this process moves into the child LEAF first. With v1 each controller has a
hierarchy of its own, and nothing has to be enabled. A machine may have both: of each controller the
one is taken that v2 has, else that of v1.
"""

import contextlib
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import attrs

import boxsched
from boxsched.protocol.fingerprint import NO_LIMIT
from boxsched.worker.supervisor import containment, limit_probe, limits
from boxsched.worker.supervisor.containment import LEAF
from boxsched.worker.supervisor.limits import (
    CPUS,
    DISK,
    MEMORY,
    PROCESSES,
    Counter,
    Group,
    Limits,
    Setting,
)

CONTROLLERS = {MEMORY: "memory", CPUS: "cpu", PROCESSES: "pids"}
PERIOD = 100_000  # microseconds: what a limit of processors is about
PROBE_SECONDS = 120.0
ADVICE = (
    "run this command as root, or as a systemd service with Delegate=yes on a system with "
    'cgroup v2 (docs/workers.md, "Limits")'
)

_ROOT = str(Path(boxsched.__file__).resolve().parent.parent)
_SELF = "/proc/self"


class CannotLimit(Exception):
    """A limit that was asked for cannot be enforced. ``limit``: its name. The message: why."""

    def __init__(self, limit: str, why: str) -> None:
        super().__init__(why)
        self.limit = limit


@attrs.frozen
class Table:
    """The files of one version of cgroups, for each limit."""

    settings: Mapping[str, Sequence[Setting]]
    counters: Mapping[str, Counter]


V2 = Table(
    {
        MEMORY: (Setting("memory.max", "{memory}"), Setting("memory.swap.max", "0", False)),
        CPUS: (Setting("cpu.max", "{quota} {period}"),),
        PROCESSES: (Setting("pids.max", "{processes}"),),
    },
    {
        MEMORY: Counter(MEMORY, "memory.events", "oom_kill"),
        CPUS: Counter(CPUS, "cpu.stat", "nr_throttled"),
        PROCESSES: Counter(PROCESSES, "pids.events", "max"),
    },
)
V1 = Table(
    {
        MEMORY: (
            Setting("memory.limit_in_bytes", "{memory}"),
            Setting("memory.memsw.limit_in_bytes", "{memory}", False),
        ),
        CPUS: (
            Setting("cpu.cfs_period_us", "{period}"),
            Setting("cpu.cfs_quota_us", "{quota}"),
        ),
        PROCESSES: (Setting("pids.max", "{processes}"),),
    },
    {
        MEMORY: Counter(MEMORY, "memory.oom_control", "oom_kill"),
        CPUS: Counter(CPUS, "cpu.stat", "nr_throttled"),
        PROCESSES: Counter(PROCESSES, "pids.events", "max"),
    },
)


def limiting(asked: Limits, proc: str = _SELF) -> Limits:
    """Return the limits with the cgroups below which jobs get theirs. Blocking.

    Tries each limit. Raises CannotLimit if one is not enforced.
    """
    wanted = [name for name in CONTROLLERS if getattr(asked, name) is not None]
    if not wanted:
        return asked
    places = dict(_places(wanted, proc))
    found = asked._replace(groups=groups(asked, places))
    small = limit_probe.SMALL
    problems = _probed(small._replace(groups=groups(small, places)), found)
    for name, problem in problems.items():
        raise CannotLimit(name, problem)
    return found


def groups(asked: Limits, places: Mapping[str, tuple[str, Table]]) -> list[Group]:
    """Return a group for each folder in ``places``: the folder and the table of each limit."""
    quota = None if asked.cpus is None else round(asked.cpus * PERIOD)
    values = {
        "memory": asked.memory,
        "processes": asked.processes,
        "quota": quota,
        "period": PERIOD,
    }
    found: dict[str, Group] = {}
    for limit, (path, table) in places.items():
        group = found.setdefault(path, Group(path, [], []))
        group.settings.extend(
            one._replace(value=one.value.format(**values)) for one in table.settings[limit]
        )
        group.counters.append(table.counters[limit])
    return list(found.values())


def _probed(small: Limits, asked: Limits) -> Mapping[str, str]:
    """Return what is not enforced, and why."""
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-I", "-S", "-X", "utf8", "-c", limit_probe.BOOT, _ROOT),
                json.dumps([small, asked]),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=True,
        )
        problems: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        limit = next(name for name in CONTROLLERS if getattr(asked, name) is not None)
        return {limit: f"it cannot be tried: {error}"}
    return problems


# --- Where ----------------------------------------------------------------------------------


def _places(wanted: Sequence[str], proc: str) -> Iterator[tuple[str, tuple[str, Table]]]:
    """Yield each limit with the cgroup below which jobs get theirs. Raises CannotLimit."""
    try:
        unified = containment.own_cgroup(proc)
    except OSError as error:  # not Linux
        raise CannotLimit(wanted[0], f"there are no cgroups: {error.strerror}") from None
    there = set() if unified is None else _words(f"{unified}/cgroup.controllers")
    of_v2 = [name for name in wanted if CONTROLLERS[name] in there]
    if unified is not None and of_v2:
        _enable(unified, of_v2)
        yield from ((name, (unified, V2)) for name in of_v2)
    for name in wanted:
        if name in of_v2:
            continue
        path = containment.cgroup_folder(CONTROLLERS[name], proc)
        if path is None:
            raise CannotLimit(name, f"there is no cgroup with the controller {CONTROLLERS[name]}")
        yield name, (path, V1)


def bases(proc: str = _SELF) -> Iterator[str]:
    """Yield the cgroups below which a worker makes those of jobs, with any limits."""
    with contextlib.suppress(OSError):
        if (unified := containment.own_cgroup(proc)) is not None:
            yield unified
        for controller in CONTROLLERS.values():
            if (path := containment.cgroup_folder(controller, proc)) is not None:
                yield path


def mark(folder: str) -> str:
    """Return what names of cgroups contain for an agent of this folder."""
    return f"{zlib.crc32(folder.encode()):08x}"


def _enable(base: str, wanted: Sequence[str]) -> None:
    """Enable the controllers for children of ``base``. Raises CannotLimit."""
    missing = [name for name in wanted if CONTROLLERS[name] not in _enabled(base)]
    if not missing:
        return
    try:
        _move_away(base)
        limits.write(
            f"{base}/cgroup.subtree_control", " ".join(f"+{CONTROLLERS[name]}" for name in missing)
        )
    except OSError as error:
        why = f"its controllers cannot be enabled in {base}: {error.strerror}"
        if others := [pid for pid in limits.processes_in(base) if pid != os.getpid()]:
            why += f" (process {others[0]} is in it)"
        raise CannotLimit(missing[0], why) from None


def _enabled(base: str) -> set[str]:
    return _words(f"{base}/cgroup.subtree_control")


def _move_away(base: str) -> None:
    """Move this process into the child LEAF, unless others are in ``base``. Raises OSError."""
    inside = limits.processes_in(base)
    if inside != [os.getpid()]:
        return
    with contextlib.suppress(FileExistsError):
        os.mkdir(f"{base}/{LEAF}")
    limits.write(f"{base}/{LEAF}/{limits.PROCS}", str(os.getpid()))


def _words(path: str) -> set[str]:
    try:
        with open(path) as file:
            return set(file.read().split())
    except OSError:
        return set()


# --- The fingerprint --------------------------------------------------------------------------


def parts(asked: Limits) -> Mapping[str, str]:
    """Return the parts of the worker's fingerprint: what is enforced, or NO_LIMIT."""
    return {
        MEMORY: _size(asked.memory),
        CPUS: NO_LIMIT if asked.cpus is None else f"{asked.cpus:g}",
        PROCESSES: NO_LIMIT if asked.processes is None else str(asked.processes),
        DISK: _size(asked.disk),
    }


def _size(size: int | None) -> str:
    """``2G``, ``1536M`` or ``1000``, as the options take it."""
    if size is None:
        return NO_LIMIT
    for letter, unit in (("T", 1 << 40), ("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if size % unit == 0:
            return f"{size // unit}{letter}"
    return str(size)
