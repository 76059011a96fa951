"""The agent's folder: one agent at a time, and what earlier ones left in it."""

import logging
import os
import re
from pathlib import Path

import attrs

from boxsched.worker import containment, remains
from boxsched.worker import folder as files
from boxsched.worker.attempt import Attempt
from boxsched.worker.folder import Damaged
from boxsched.worker.plan import Worksite, cgroup_of

TRASH, QUARANTINE = "trash", "quarantine"
_WHY = "why-quarantined"
_ATTEMPT = re.compile(r"w\d+-\d+-\d+")

_log = logging.getLogger(__name__)


class FolderInUse(Exception):
    """Another agent works in this folder: give each worker a folder of its own."""


@attrs.frozen
class OpenFolder:
    site: Worksite
    lock: int
    bell: int

    def close(self) -> None:
        os.close(self.bell)
        os.close(self.lock)

    def empty_trash(self) -> None:
        for error in remains.empty(f"{self.site.folder}/{TRASH}"):
            _log.warning("a job's files cannot be removed: %s", error)

    def discard(self, attempt: Attempt) -> None:
        attempt.close()
        remains.set_aside(attempt.folder, f"{self.site.folder}/{TRASH}")


def open_folder(path: Path, *, cluster: str, log_limit: int) -> OpenFolder:
    """Blocking. Raises FolderInUse."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = str(path.resolve())
    lock = files.try_lock(f"{folder}/agent.lock")
    if lock is None:
        raise FolderInUse(f"another worker works in {folder}")
    bell = f"{folder}/{files.BELL}"
    if not os.path.exists(bell):
        os.mkfifo(bell, 0o600)
    cgroup_base = containment.cgroup_base()
    _tell_isolation(cgroup_base)
    site = Worksite(folder, cluster, _boot(), log_limit, cgroup_base)
    # Open for writing too, so that it has no end when the last supervisor closes it.
    return OpenFolder(site, lock, os.open(bell, os.O_RDWR | os.O_NONBLOCK))


def adopt_all(site: Worksite) -> tuple[list[Attempt], dict[str, str]]:
    """Every attempt that is there, and why others are in quarantine, by name. Blocking."""
    attempts = []
    for name in sorted(filter(_ATTEMPT.fullmatch, os.listdir(site.folder))):
        folder = f"{site.folder}/{name}"
        try:
            attempts.append(Attempt.adopt(folder, site))
        except (Damaged, OSError) as error:
            _set_aside(folder, site, str(error))
    shelf = f"{site.folder}/{QUARANTINE}"
    names = os.listdir(shelf) if os.path.isdir(shelf) else []
    reasons = {name: files.read_file(f"{shelf}/{name}/{_WHY}") or b"damaged" for name in names}
    return attempts, {name: reason.decode() for name, reason in reasons.items()}


def _set_aside(folder: str, site: Worksite, why: str) -> None:
    """It cannot be adopted, so it is ended; its folder is kept for a person to look at."""
    if not files.exists(folder, files.RECORD) and not files.exists(folder, files.STARTED):
        remains.set_aside(folder, f"{site.folder}/{TRASH}")  # the agent died while making it
        return
    remains.end_processes(folder, cgroup_of(site, os.path.basename(folder)))
    place = remains.set_aside(folder, f"{site.folder}/{QUARANTINE}")
    files.write_file(f"{place}/{_WHY}", why.encode())
    _log.error("a recovery record cannot be used, see %s: %s", place, why)


def _boot() -> str:
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
