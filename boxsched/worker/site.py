"""The agent's folder: one agent at a time, and what earlier ones left in it."""

import contextlib
import logging
import os
import re
import stat
from pathlib import Path

import attrs

from boxsched.worker import containment, remains
from boxsched.worker import folder as files
from boxsched.worker.attempt import Attempt
from boxsched.worker.folder import Damaged
from boxsched.worker.heard import following, open_heard, read_heard, write_heard
from boxsched.worker.plan import Worksite, cgroup_of

TRASH, QUARANTINE, STALE = "trash", "quarantine", "stale"
KEPT_STALE = 20  # the newest
_WHY = "why-quarantined"
_ATTEMPT = re.compile(r"w\d+-\d+-\d+")

_log = logging.getLogger(__name__)


class FolderInUse(Exception):
    """Another agent works in this folder: give each worker a folder of its own."""


class JobsLeftBehind(Exception):
    """Jobs of the process driver are here: run it until they have ended, or remove the folder."""


@attrs.frozen
class OpenFolder:
    site: Worksite
    lock: int
    bell: int
    heard: int

    def close(self) -> None:
        for descriptor in (self.heard, self.bell, self.lock):
            os.close(descriptor)

    def hear(self, at: float, lost_after: float) -> None:
        """A node has answered a heartbeat: what runs need not end before this and that time."""
        last = read_heard(self.site.folder)
        write_heard(self.heard, following(last, self.site.boot, at, lost_after))

    def empty_trash(self) -> None:
        for error in remains.empty(f"{self.site.folder}/{TRASH}"):
            _log.warning("a job's files cannot be removed: %s", error)

    def discard(self, attempt: Attempt) -> None:
        """It is done with; of what was dropped the newest are kept for a person to look at."""
        trash, stale = f"{self.site.folder}/{TRASH}", f"{self.site.folder}/{STALE}"
        with contextlib.suppress(FileNotFoundError):  # somebody has removed it
            remains.set_aside(attempt.folder, stale if attempt.stale else trash)
            for path in remains.oldest(stale, KEPT_STALE) if attempt.stale else ():
                remains.set_aside(path, trash)
        attempt.close()


def open_folder(path: Path, *, cluster: str, log_limit: int, stop_grace: float) -> OpenFolder:
    """Blocking. Raises FolderInUse."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = str(path.resolve())
    lock = files.try_lock(f"{folder}/agent.lock")
    if lock is None:
        raise FolderInUse(f"another worker works in {folder}")
    with contextlib.ExitStack() as taken:
        taken.callback(os.close, lock)
        cgroup_base = containment.cgroup_base()
        site = Worksite(folder, cluster, boot_id(), log_limit, cgroup_base, stop_grace)
        heard = open_heard(folder)
        taken.callback(os.close, heard)
        opened = OpenFolder(site, lock, _open_bell(f"{folder}/{files.BELL}"), heard)
        taken.pop_all()
    _tell_isolation(cgroup_base)
    return opened


def _open_bell(bell: str) -> int:
    """For writing too, so that it has no end when the last supervisor closes it."""
    if not os.path.lexists(bell) or not stat.S_ISFIFO(os.lstat(bell).st_mode):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(bell)
        os.mkfifo(bell, 0o600)
    return os.open(bell, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW)


def adopt_all(site: Worksite) -> tuple[list[Attempt], dict[str, str]]:
    """Every attempt that is there, and why others are in quarantine, by name. Blocking.

    Raises OSError where that says nothing about an attempt (no descriptor left, say): all of them
    go on, for an agent that can adopt them.
    """
    attempts: list[Attempt] = []
    with contextlib.ExitStack() as opened:
        for name in _attempts_in(site.folder):
            folder = f"{site.folder}/{name}"
            try:
                attempts.append(Attempt.adopt(folder, site))
            except (Damaged, OSError) as error:
                if isinstance(error, OSError) and error.errno in files.NO_DESCRIPTOR:
                    raise
                _set_aside(folder, site, str(error))
            else:
                opened.callback(attempts[-1].close)
        quarantined = _quarantined(f"{site.folder}/{QUARANTINE}")
        opened.pop_all()
    return attempts, quarantined


def refuse_jobs_left_behind(path: Path, cluster: str) -> None:
    """For a driver that knows nothing of them. Raises JobsLeftBehind. Blocking."""
    folder = str(path.resolve())
    left = [
        name
        for name in (_attempts_in(folder) if os.path.isdir(folder) else ())
        if _may_run(f"{folder}/{name}", cluster)
    ]
    if left:
        raise JobsLeftBehind(
            f"{folder} holds jobs of the process driver ({', '.join(left[:3])}"
            f"{', ...' if left[3:] else ''}): run with the process driver until they have ended, "
            "or remove the folder"
        )


def _may_run(folder: str, cluster: str) -> bool:
    if not files.exists(folder, files.RECORD) and not files.exists(folder, files.STARTED):
        return False  # an agent died while making it
    try:
        return files.read_record(folder).cluster == cluster
    except Damaged:
        return True


def _attempts_in(folder: str) -> list[str]:
    return sorted(filter(_ATTEMPT.fullmatch, os.listdir(folder)))


def _quarantined(shelf: str) -> dict[str, str]:
    names = os.listdir(shelf) if os.path.isdir(shelf) else []
    return {name: _why(f"{shelf}/{name}") for name in names}


def _why(place: str) -> str:
    try:
        return (files.read_file(f"{place}/{_WHY}") or b"damaged").decode(errors="replace")
    except (Damaged, NotADirectoryError):
        return "damaged"


def _set_aside(folder: str, site: Worksite, why: str) -> None:
    """It cannot be adopted, so it is ended; its folder is kept for a person to look at."""
    if not files.exists(folder, files.RECORD) and not files.exists(folder, files.STARTED):
        remains.set_aside(folder, f"{site.folder}/{TRASH}")  # the agent died while making it
        return
    remains.end_processes(folder, cgroup_of(site, os.path.basename(folder)))
    place = remains.set_aside(folder, f"{site.folder}/{QUARANTINE}")
    files.write_file(f"{place}/{_WHY}", why.encode())
    _log.error("a recovery record cannot be used, see %s: %s", place, why)


def boot_id() -> str:
    """The boot id of the machine; empty where there is none."""
    return (files.read_file("/proc/sys/kernel/random/boot_id") or b"").decode().strip()


def _tell_isolation(cgroup_base: str | None) -> None:
    if cgroup_base is not None:
        _log.info("jobs run as this user, each in a cgroup below %s", cgroup_base)
    else:
        _log.warning(
            "jobs run as this user and without a cgroup: no cgroup v2 that it may write to; "
            "their processes are found by descent"
        )
