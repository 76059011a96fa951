"""The agent's folder: it belongs to one agent at a time; the next agent adopts its attempts."""

import contextlib
import fcntl
import logging
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs

from boxsched.worker.agent import limiting, remains
from boxsched.worker.agent.attempt import Attempt
from boxsched.worker.agent.attempt_folder import AttemptFolder
from boxsched.worker.agent.images import NO_IMAGES, Images
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.plan import Worksite, cgroup_of, limit_groups
from boxsched.worker.supervisor import containment, job_secrets, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.isolation import Isolation
from boxsched.worker.supervisor.last_heartbeat import (
    next_heartbeat,
    open_last_heartbeat,
    read_last_heartbeat,
    write_last_heartbeat,
)
from boxsched.worker.supervisor.limits import NO_LIMITS, Limits, described
from boxsched.worker.supervisor.safe_files import Damaged

LOCK = "agent.lock"
TRASH, QUARANTINE, STALE = "trash", "quarantine", "stale"
KEPT_STALE = 20  # folders; the oldest are removed
KEPT_QUARANTINED = 20  # folders; the oldest are removed
_WHY = "why-quarantined"
_ATTEMPT = re.compile(r"w\d+-\d+-\d+")

_log = logging.getLogger(__name__)


class FolderInUse(Exception):
    """Another agent uses this folder: give each worker its own folder."""


class JobsLeftBehind(Exception):
    """The folder holds jobs of the process driver: run it until they end, or remove the folder."""


@attrs.frozen
class OpenFolder:
    site: Worksite
    lock: int
    bell: int
    heartbeat_file: int

    def close(self) -> None:
        fcntl.flock(self.lock, fcntl.LOCK_UN)  # also in a child that has not begun its program yet
        for descriptor in (self.heartbeat_file, self.bell, self.lock, self.site.at):
            os.close(descriptor)

    def write_heartbeat(self, at: float, lost_after: float) -> None:
        """Record for all supervisors that a node answered the heartbeat that was sent ``at``."""
        last = read_last_heartbeat(self.site.at)
        write_last_heartbeat(
            self.heartbeat_file, next_heartbeat(last, self.site.boot, at, lost_after)
        )

    def empty_trash(self) -> None:
        for error in remains.empty(self.site.at, TRASH):
            _log.warning("a job's files cannot be removed: %s", error)

    def discard(self, attempt: Attempt) -> None:
        """Remove a finished attempt's folder. Keep the newest stale ones for inspection."""
        with contextlib.suppress(FileNotFoundError):  # it was removed already
            remains.set_aside(self.site.at, attempt.name, STALE if attempt.stale else TRASH)
            if attempt.stale:
                remains.keep_newest(self.site.at, STALE, TRASH, kept=KEPT_STALE)
        attempt.close()


def open_folder(
    path: Path,
    *,
    cluster: str,
    log_limit: int,
    stop_grace: float,
    isolation: Isolation | None = None,
    limits: Limits = NO_LIMITS,
    ssh_address: str | None = None,
    images: Images = NO_IMAGES,
) -> OpenFolder:
    """Open the agent's folder and lock it. Raises FolderInUse. Blocking."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = str(path.resolve())
    with contextlib.ExitStack() as taken:
        at = safe_files.open_folder(folder)
        taken.callback(os.close, at)
        lock = safe_files.try_lock(at, LOCK)
        if lock is None:
            raise FolderInUse(f"another worker uses {folder}")
        taken.callback(os.close, lock)
        cgroup_base = containment.cgroup_base()
        site = Worksite(
            folder,
            at,
            cluster,
            boot_id(),
            log_limit,
            cgroup_base,
            stop_grace,
            isolation,
            limits,
            images,
            tuple(limiting.bases()),
            ssh_address,
        )
        heartbeat_file = open_last_heartbeat(at)
        taken.callback(os.close, heartbeat_file)
        opened = OpenFolder(site, lock, _open_bell(at), heartbeat_file)
        taken.pop_all()
    _log_isolation(cgroup_base, isolation)
    _log_limits(limits)
    return opened


def refuse_folder_in_use(path: Path) -> None:
    """Raise FolderInUse if an agent uses the folder. Blocking."""
    folder = str(path.resolve())
    try:
        at = safe_files.open_folder(folder)
    except FileNotFoundError:
        return
    try:
        lock = safe_files.try_lock(at, LOCK)
    finally:
        os.close(at)
    if lock is None:
        raise FolderInUse(f"another worker uses {folder}")
    os.close(lock)


def _open_bell(at: int) -> int:
    """Open it for reading and writing, so that it never reports end of file."""
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
    """Return all attempts in the folder, and the reasons of those in quarantine by name. Blocking.

    Raises OSError for an error that does not concern one attempt, such as no free descriptor. Then
    all attempts continue, and a later agent adopts them.
    """
    attempts: list[Attempt] = []
    with contextlib.ExitStack() as opened:
        for name in _attempts_in(site.at):
            folder = AttemptFolder(site.at, f"{site.folder}/{name}")
            try:
                attempts.append(Attempt.adopt(folder, site))
            except (Damaged, OSError) as error:
                folder.close()
                if isinstance(error, OSError) and error.errno in safe_files.NO_DESCRIPTOR:
                    raise
                _set_aside(name, site, str(error))
            else:
                opened.callback(attempts[-1].close)
        with contextlib.suppress(OSError):  # for example a full disk; the next start tries again
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
        return False  # not the folder of an attempt
    try:
        if not _has_begun(at):
            return False
        return files.read_record(at).cluster == cluster
    except Damaged:
        return True
    finally:
        os.close(at)


def _has_begun(at: int) -> bool:
    """Whether the attempt was prepared completely; otherwise an agent died while preparing it."""
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


def quarantine_notes(quarantined: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence about records in quarantine, for operators; none if there are none."""
    if not quarantined:
        return ()
    name = max(quarantined)
    count = len(quarantined)
    records = f"{count} record{'s' if count > 1 else ''} of jobs in {QUARANTINE}"
    return (f"{records}, such as {name}: {quarantined[name]}",)


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
    """End an attempt that cannot be adopted. Keep its folder for inspection."""
    started = None
    try:
        at = safe_files.open_folder(name, site.at)
    except OSError:
        begun = False  # for example a link: not the folder of an attempt
    else:
        begun = _has_begun(at)
        with contextlib.suppress(Damaged, OSError):
            started = note(at, files.STARTED, files.Started)
        os.close(at)
    if not begun:
        remains.set_aside(site.at, name, TRASH)
        return
    cgroup, groups = cgroup_of(site, name), limit_groups(site, name)
    remains.end_processes(f"{site.folder}/{name}", started, cgroup, groups)
    place = remains.set_aside(site.at, name, QUARANTINE)
    with contextlib.ExitStack() as opened:
        shelf = safe_files.open_folder(QUARANTINE, site.at)
        opened.callback(os.close, shelf)
        at = safe_files.open_folder(place, shelf)
        opened.callback(os.close, at)
        job_secrets.remove(at)
        safe_files.remove_tree(at, f"{files.BOX}/{job_secrets.FILES_FOLDER}")
        safe_files.write_file(at, _WHY, why.encode())
    path = f"{site.folder}/{QUARANTINE}/{place}"
    _log.error("the record of an attempt cannot be used: %s; its folder is now %s", why, path)


def boot_id() -> str:
    """Return the boot id of the machine; "" if it has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except FileNotFoundError:
        return ""


def _log_isolation(cgroup_base: str | None, isolation: Isolation | None) -> None:
    who = "this user" if isolation is None or isolation.uid is None else f"user {isolation.uid}"
    walls = ", isolated by bubblewrap" if isolation is not None else ""
    if cgroup_base is not None:
        _log.info("jobs run as %s%s, each in a cgroup below %s", who, walls, cgroup_base)
    elif isolation is not None:
        _log.info("jobs run as %s%s", who, walls)
    else:
        _log.warning(
            "jobs run as %s%s and without a cgroup, because it can write to no cgroup v2; "
            "their processes are found as descendants",
            who,
            walls,
        )


def _log_limits(limits: Limits) -> None:
    if said := described(limits):
        _log.info("limits of a job: %s", said)
    else:
        _log.info("a job may take all memory, processors and disk that this worker may have")
