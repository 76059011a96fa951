"""What is left of an attempt that nobody watches over any more: its processes and its place."""

import os
import signal
import time

from boxsched.worker import containment
from boxsched.worker import folder as files
from boxsched.worker.notes import note

_PATIENCE_SECONDS = 5.0
_LOOK_SECONDS = 0.02
_EMPTY_TRIES = 3
_EMPTY_PAUSE_SECONDS = 0.5


def end_processes(folder: str, cgroup: str | None) -> None:
    """Kill the supervisor, if it lives, and all of its job; waits until they are gone.

    Blocking. Found by cgroup, by descent, and by what only this attempt's environment has.
    """
    doomed = _supervisor_and_descendants(folder)
    containment.send(doomed, signal.SIGKILL)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < give_up:
        held = cgroup is not None and containment.in_use(cgroup)
        if cgroup is not None and held:
            containment.kill_cgroup(cgroup)
        carriers = _carriers(folder)
        containment.send(carriers, signal.SIGKILL)
        if not carriers and not held:
            break
        time.sleep(_LOOK_SECONDS)
    if cgroup is not None:
        containment.remove_cgroup(cgroup)


def _carriers(folder: str) -> list[int]:
    """Processes that have the attempt's HOME or TMPDIR; where its job sets both itself, those that
    have its ids and work below its folder."""
    job, _, attempt = os.path.basename(folder).rpartition("-")
    return containment.carriers(
        {"BOXSCHED_JOB": job, "BOXSCHED_ATTEMPT": attempt},
        {"HOME": f"{folder}/{files.HOME}", "TMPDIR": f"{folder}/{files.TMP}"},
        f"{folder}/{files.BOX}",
    )


def _supervisor_and_descendants(folder: str) -> list[int]:
    """The supervisor first, so that it does not see its job die and write a result."""
    try:
        started = note(folder, files.STARTED, files.Started)
    except files.Damaged:
        return []
    if started is None or started.start_time is None:
        return []
    if containment.start_time(started.pid) != started.start_time:
        return []  # dead; another process may have its pid
    return [started.pid, *containment.descendants(started.pid)]


def set_aside(folder: str, shelf: str) -> str:
    """Move an attempt's folder onto a shelf (trash, quarantine) of the same file system."""
    os.makedirs(shelf, mode=0o700, exist_ok=True)
    place = f"{shelf}/{os.path.basename(folder)}"
    if os.path.lexists(place):
        place = f"{place}.{time.time_ns()}"
    os.rename(folder, place)
    return place


def oldest(shelf: str, kept: int) -> list[str]:
    """What is on the shelf but for the ``kept`` newest."""
    with os.scandir(shelf) as entries:
        found = [(entry.stat(follow_symlinks=False).st_mtime_ns, entry.path) for entry in entries]
    return [path for _, path in sorted(found)[: max(0, len(found) - kept)]]


def empty(shelf: str) -> list[OSError]:
    """Remove everything on a shelf; what cannot be removed is returned, and stays.

    Blocking. A process that is just ending may write one more file into a folder that is being
    removed: only what cannot be removed a second later either counts.
    """
    for left in reversed(range(_EMPTY_TRIES)):
        failures = _emptied(shelf)
        if not failures or not left:
            break
        time.sleep(_EMPTY_PAUSE_SECONDS)
    return failures


def _emptied(shelf: str) -> list[OSError]:
    failures = []
    try:
        names = os.listdir(shelf)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [error]
    for name in names:
        try:
            files.remove_tree(f"{shelf}/{name}")
        except OSError as error:
            failures.append(error)
    return failures
