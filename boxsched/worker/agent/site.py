"""The agent's folder: one agent at a time, and what earlier ones left in it."""

import contextlib
import logging
import os
import re
import stat
from pathlib import Path

import attrs

from boxsched.worker.agent import remains
from boxsched.worker.agent.attempt import Attempt
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.place import Place
from boxsched.worker.agent.plan import Worksite, cgroup_of
from boxsched.worker.supervisor import containment, given, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.heard import following, open_heard, read_heard, write_heard
from boxsched.worker.supervisor.safe_files import Damaged

TRASH, QUARANTINE, STALE = "trash", "quarantine", "stale"
KEPT_STALE = 20  # the newest
KEPT_QUARANTINED = 20  # likewise
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
        for descriptor in (self.heard, self.bell, self.lock, self.site.at):
            os.close(descriptor)

    def hear(self, at: float, lost_after: float) -> None:
        """Note for all supervisors that a node answered the heartbeat that was sent ``at``."""
        last = read_heard(self.site.at)
        write_heard(self.heard, following(last, self.site.boot, at, lost_after))

    def empty_trash(self) -> None:
        for error in remains.empty(self.site.at, TRASH):
            _log.warning("a job's files cannot be removed: %s", error)

    def discard(self, attempt: Attempt) -> None:
        """Remove a finished attempt's folder; keep the newest dropped ones for a person to read."""
        with contextlib.suppress(FileNotFoundError):  # somebody has removed it
            remains.set_aside(self.site.at, attempt.name, STALE if attempt.stale else TRASH)
            if attempt.stale:
                remains.keep_newest(self.site.at, STALE, TRASH, kept=KEPT_STALE)
        attempt.close()


def open_folder(path: Path, *, cluster: str, log_limit: int, stop_grace: float) -> OpenFolder:
    """Blocking. Raises FolderInUse."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = str(path.resolve())
    with contextlib.ExitStack() as taken:
        at = safe_files.open_folder(folder)
        taken.callback(os.close, at)
        lock = safe_files.try_lock(at, "agent.lock")
        if lock is None:
            raise FolderInUse(f"another worker works in {folder}")
        taken.callback(os.close, lock)
        cgroup_base = containment.cgroup_base()
        site = Worksite(folder, at, cluster, boot_id(), log_limit, cgroup_base, stop_grace)
        heard = open_heard(at)
        taken.callback(os.close, heard)
        opened = OpenFolder(site, lock, _open_bell(at), heard)
        taken.pop_all()
    _tell_isolation(cgroup_base)
    return opened


def _open_bell(at: int) -> int:
    """For writing too, so that it has no end when the last supervisor closes it."""
    bell = files.BELL
    if not _is_bell(at):
        safe_files.remove_tree(at, bell)
        os.mkfifo(bell, 0o600, dir_fd=at)
    return os.open(bell, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW, dir_fd=at)


def _is_bell(at: int) -> bool:
    try:
        found = os.stat(files.BELL, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISFIFO(found.st_mode)


def adopt_all(site: Worksite) -> tuple[list[Attempt], dict[str, str]]:
    """Return all attempts in the folder, and by name why others are in quarantine. Blocking.

    Raises OSError if the error says nothing about an attempt (no descriptor left, say): then all of
    them continue, for a later agent to adopt.
    """
    attempts: list[Attempt] = []
    with contextlib.ExitStack() as opened:
        for name in _attempts_in(site.at):
            place = Place(site.at, f"{site.folder}/{name}")
            try:
                attempts.append(Attempt.adopt(place, site))
            except (Damaged, OSError) as error:
                place.close()
                if isinstance(error, OSError) and error.errno in safe_files.NO_DESCRIPTOR:
                    raise
                _set_aside(name, site, str(error))
            else:
                opened.callback(attempts[-1].close)
        with contextlib.suppress(OSError):  # a full disk, say: at the next start, then
            remains.keep_newest(site.at, QUARANTINE, TRASH, kept=KEPT_QUARANTINED)
        quarantined = _quarantined(site.at)
        opened.pop_all()
    return attempts, quarantined


def refuse_jobs_left_behind(path: Path, cluster: str) -> None:
    """Raise JobsLeftBehind if the folder holds jobs of the process driver. Blocking."""
    folder = str(path.resolve())
    left: list[str] = []
    with contextlib.suppress(FileNotFoundError):
        at = safe_files.open_folder(folder)
        try:
            left = [name for name in _attempts_in(at) if _may_run(at, name, cluster)]
        finally:
            os.close(at)
    if left:
        raise JobsLeftBehind(
            f"{folder} holds jobs of the process driver ({', '.join(left[:3])}"
            f"{', ...' if left[3:] else ''}): run with the process driver until they have ended, "
            "or remove the folder"
        )


def _may_run(site: int, name: str, cluster: str) -> bool:
    try:
        at = safe_files.open_folder(name, site)
    except OSError:
        return False  # no attempt's
    try:
        if not _has_begun(at):
            return False
        return files.read_record(at).cluster == cluster
    except Damaged:
        return True
    finally:
        os.close(at)


def _has_begun(at: int) -> bool:
    """Else an agent died while making it."""
    return safe_files.exists(at, files.RECORD) or safe_files.exists(at, files.STARTED)


def _attempts_in(site: int) -> list[str]:
    return sorted(filter(_ATTEMPT.fullmatch, os.listdir(site)))


def _quarantined(site: int) -> dict[str, str]:
    try:
        shelf = safe_files.open_folder(QUARANTINE, site)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        return {name: _why(shelf, name) for name in os.listdir(shelf)}
    finally:
        os.close(shelf)


def _why(shelf: int, name: str) -> str:
    try:
        place = safe_files.open_folder(name, shelf)
    except NotADirectoryError:
        return "damaged"
    try:
        return (safe_files.read_file(place, _WHY) or b"damaged").decode(errors="replace")
    except Damaged:
        return "damaged"
    finally:
        os.close(place)


def _set_aside(name: str, site: Worksite, why: str) -> None:
    """It cannot be adopted, so it is ended; its folder is kept for a person to look at."""
    started = None
    try:
        at = safe_files.open_folder(name, site.at)
    except OSError:
        begun = False  # a link, say: no attempt's
    else:
        begun = _has_begun(at)
        with contextlib.suppress(Damaged, OSError):
            started = note(at, files.STARTED, files.Started)
        os.close(at)
    if not begun:
        remains.set_aside(site.at, name, TRASH)
        return
    remains.end_processes(f"{site.folder}/{name}", started, cgroup_of(site, name))
    place = remains.set_aside(site.at, name, QUARANTINE)
    with contextlib.ExitStack() as opened:
        shelf = safe_files.open_folder(QUARANTINE, site.at)
        opened.callback(os.close, shelf)
        at = safe_files.open_folder(place, shelf)
        opened.callback(os.close, at)
        given.remove(at)
        safe_files.remove_tree(at, f"{files.BOX}/{given.FOLDER}")
        safe_files.write_file(at, _WHY, why.encode())
    path = f"{site.folder}/{QUARANTINE}/{place}"
    _log.error("a recovery record cannot be used, see %s: %s", path, why)


def boot_id() -> str:
    """The boot id of the machine; empty where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return ""


def _tell_isolation(cgroup_base: str | None) -> None:
    if cgroup_base is not None:
        _log.info("jobs run as this user, each in a cgroup below %s", cgroup_base)
    else:
        _log.warning(
            "jobs run as this user and without a cgroup: no cgroup v2 that it may write to; "
            "their processes are found by descent"
        )
