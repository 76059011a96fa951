"""A lock that lets one process use a database file; the kernel releases it after a crash."""

import fcntl
import os
from pathlib import Path

from boxsched.store.errors import StoreInUse


class FileLock:
    """A lock held from ``take`` to ``release``. The file contains the owner's process id, for
    people.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Take the lock. Raises StoreInUse, with the folder and the process, if another process has
        it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreInUse(
                f"the data folder {self.path.parent} is in use by process {owner}: "
                f"stop it, or use another folder (lock: {self.path.name})"
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Release the lock. The file stays: removing it could let two other processes in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
