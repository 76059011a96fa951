"""The data folder of an external worker: its identity and its installation.

``identity`` is a random text that is made once. By it the nodes recognize the worker, even with
another name or address. ``cluster`` names the installation that accepted the worker last, so that a
restarted worker can adopt its jobs before it reaches a node. Only one process at a time may use a
data folder.
"""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

from boxsched.folders import is_of_a_service
from boxsched.worker.agent.site import FolderInUse, refuse_folder_in_use
from boxsched.worker.supervisor import safe_files

IDENTITY, CLUSTER, LOCK = "identity", "cluster", "worker.lock"
JOBS = "worker"  # the agent's folder
_IDENTITY = re.compile(r"[0-9a-f]{32}")


class Unusable(Exception):
    """A file in the data folder is damaged or was not written by a worker; see the message."""


@contextlib.contextmanager
def owned(data: Path) -> Iterator[None]:
    """Lock the data folder for this process. Raises FolderInUse, OSError. Blocking.

    It is refused where the agent could not use it, either: an agent begins only once a node has
    accepted the worker, and by then the worker's token is taken.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    at = safe_files.open_folder(str(data.resolve()))
    try:
        lock = safe_files.try_lock(at, LOCK)
    finally:
        os.close(at)
    if lock is None:
        raise FolderInUse(
            f"another worker uses the data folder {data}: give each worker its own folder"
        )
    try:
        _refuse_in_use(data)
        yield
    finally:
        os.close(lock)


def _refuse_in_use(data: Path) -> None:
    """Raise FolderInUse if another agent uses the folder: another worker's, or a service's own."""
    try:
        refuse_folder_in_use(data / JOBS)
    except FolderInUse:
        if not is_of_a_service(data):
            raise
        raise FolderInUse(
            f"{data} is the data folder of a service that is running: give the worker one of its "
            "own with --data (without it, BOXSCHED_DATA applies)"
        ) from None


def identity(data: Path) -> str:
    """Return the identity; make it at the first call. Raises Unusable, OSError. Blocking."""
    kept = _read(data, IDENTITY)
    if kept is None:
        kept = secrets.token_hex(16)
        _write(data, IDENTITY, kept)
    if not _IDENTITY.fullmatch(kept):
        raise Unusable(
            f"{data / IDENTITY} is damaged: restore it, or remove it to register as a new worker"
        )
    return kept


def cluster(data: Path) -> str | None:
    """Return the installation that accepted this worker last, or None.

    Raises Unusable, OSError. Blocking.
    """
    return _read(data, CLUSTER) or None


def keep_cluster(data: Path, name: str) -> None:
    _write(data, CLUSTER, name)


def _read(data: Path, name: str) -> str | None:
    at = safe_files.open_folder(str(data.resolve()))
    try:
        text = safe_files.read_file(at, name, limit=4_096)
        return None if text is None else text.decode("ascii").strip()
    except (safe_files.Damaged, UnicodeDecodeError):
        raise Unusable(f"{data / name} was not written by a worker: remove it") from None
    finally:
        os.close(at)


def _write(data: Path, name: str, text: str) -> None:
    """Write the file durably; after a crash it has either the old or the new content."""
    at = safe_files.open_folder(str(data.resolve()))
    try:
        safe_files.write_file(at, f"{name}.new", f"{text}\n".encode("ascii"), durable=True)
        safe_files.rename(at, f"{name}.new", name)
        os.fsync(at)
    finally:
        os.close(at)
