"""Remove what is left of an attempt without a supervisor: its processes and its folder."""

import os
import signal
import time
from collections.abc import Sequence

from boxsched.worker.supervisor import containment, isolation, limits, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.folder import Started

_PATIENCE_SECONDS = 5.0
_ENDED_LOOK_SECONDS = 0.02
_EMPTY_TRIES = 3
_EMPTY_PAUSE_SECONDS = 0.5


def end_processes(
    folder: str, started: Started | None, cgroup: str | None, groups: Sequence[str] = ()
) -> None:
    """Kill the supervisor, if it lives, and all processes of its job; wait until they are gone.

    ``started``: the supervisor's note about itself. ``folder``: the attempt's folder. Processes are
    found by cgroup, as descendants, and by this attempt's environment. ``groups``: further cgroups,
    those of its limits. Blocking.
    """
    doomed = _supervisor_and_descendants(started)
    containment.send(doomed, signal.SIGKILL)
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < give_up:
        held = cgroup is not None and containment.in_use(cgroup)
        if cgroup is not None and held:
            containment.kill_cgroup(cgroup)
        marked = _marked_processes(folder)
        marked += [pid for group in groups for pid in limits.processes_in(group)]
        containment.send(marked, signal.SIGKILL)
        if not marked and not held:
            break
        time.sleep(_ENDED_LOOK_SECONDS)
    if cgroup is not None:
        containment.remove_cgroup(cgroup)
    limits.remove(groups)


def _marked_processes(folder: str) -> list[int]:
    """Return the processes with the attempt's HOME or TMPDIR.

    If the job sets both variables itself: those with its ids that work below its folder. Of an
    isolated job: bubblewrap's processes, with which all others end.
    """
    job, _, attempt = os.path.basename(folder).rpartition("-")
    return containment.marked_processes(
        {"BOXSCHED_JOB": job, "BOXSCHED_ATTEMPT": attempt},
        {
            "HOME": f"{folder}/{files.HOME}",
            "TMPDIR": f"{folder}/{files.TMP}",
            isolation.MARK: folder,
        },
        f"{folder}/{files.BOX}",
    )


def _supervisor_and_descendants(started: Started | None) -> list[int]:
    """Return the supervisor first: killed first, it cannot see its job die and write a result."""
    if started is None or started.start_time is None:
        return []
    if containment.start_time(started.pid) != started.start_time:
        return []  # dead; another process may have its pid
    return [started.pid, *containment.descendants(started.pid)]


def set_aside(site: int, name: str, shelf: str) -> str:
    """Move the entry ``name`` of the agent's folder into its subfolder ``shelf``.

    ``shelf``: trash, quarantine or stale. Return the entry's new name.
    """
    there = safe_files.open_or_make(shelf, site)
    try:
        place = f"{name}.{time.time_ns()}" if safe_files.exists(there, name) else name
        os.rename(name, place, src_dir_fd=site, dst_dir_fd=there)
    finally:
        os.close(there)
    return place


def keep_newest(site: int, shelf: str, trash: str, *, kept: int) -> None:
    """Move all but the ``kept`` newest entries of ``shelf`` into ``trash``."""
    there = safe_files.open_or_make(shelf, site)
    away = safe_files.open_or_make(trash, site)
    try:
        times = {
            name: os.stat(name, dir_fd=there, follow_symlinks=False).st_mtime_ns
            for name in os.listdir(there)
        }
        for name in sorted(times, key=times.__getitem__)[: max(0, len(times) - kept)]:
            place = f"{name}.{time.time_ns()}" if safe_files.exists(away, name) else name
            os.rename(name, place, src_dir_fd=there, dst_dir_fd=away)
    finally:
        os.close(there)
        os.close(away)


def empty(site: int, shelf: str) -> list[OSError]:
    """Remove everything in the subfolder ``shelf``; return the errors. Blocking.

    A process that is just ending may write one more file into a folder that is being removed. So a
    failed removal is tried again for about a second.
    """
    for left in reversed(range(_EMPTY_TRIES)):
        failures = _emptied(site, shelf)
        if not failures or not left:
            break
        time.sleep(_EMPTY_PAUSE_SECONDS)
    return failures


def _emptied(site: int, shelf: str) -> list[OSError]:
    failures = []
    try:
        there = safe_files.open_folder(shelf, site)
    except FileNotFoundError:
        return []
    except OSError as error:
        return [error]
    try:
        for name in os.listdir(there):
            try:
                safe_files.remove_tree(there, name)
            except OSError as error:
                failures.append(error)
    finally:
        os.close(there)
    return failures
