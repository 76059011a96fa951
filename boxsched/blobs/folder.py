"""Files in a folder, which may be shared by all nodes."""

import asyncio
import contextlib
import errno
import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

from boxsched.blobs.places import FOLDER, NAME, ContentGone, WrongContent
from boxsched.errors import StoreAway, disk_full

READ_BYTES = 1 << 20
OWNER = "belongs-to"  # holds the name of the installation
FILES, UPLOADS = "files", "uploads"
SHELVES = 256
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)


class WrongFolder(Exception):
    """The folder cannot be used; the message says why."""


class FolderPlace:
    name = FOLDER

    def __init__(self, path: Path) -> None:
        self.path = path

    def open(self, cluster: str) -> None:
        """Make the folder, or check that it is this installation's. Raises WrongFolder. Blocking.

        Files without a row are removed, so two installations must never share a folder.
        """
        try:
            for name in (FILES, UPLOADS):
                (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
            owner = self.path / OWNER
            with contextlib.suppress(FileExistsError):
                new = owner.with_name(f"{OWNER}.{os.getpid()}.{time.monotonic_ns()}")
                new.write_text(cluster)
                try:
                    os.link(new, owner)  # one of several nodes wins, with a complete file
                finally:
                    new.unlink()
            found = owner.read_text().strip()
        except OSError as error:
            raise WrongFolder(f"{self.path} cannot be used: {error.strerror}") from None
        if found != cluster:
            raise WrongFolder(f"{self.path} belongs to another installation: use another folder")

    async def append(self, file: str, offset: int, data: bytes) -> int:
        return await _in_thread(self._append, file, offset, data)

    async def finish(self, file: str, size: int, sha256: str) -> None:
        await _in_thread(self._finish, file, size, sha256)

    async def read(self, file: str, offset: int, limit: int) -> bytes:
        return await _in_thread(self._read, file, offset, limit)

    async def remove(self, file: str) -> None:
        await _in_thread(self._remove, file)

    async def write(self, file: str, data: bytes) -> None:
        """Write a whole new file durably."""
        await self.append(file, 0, data)
        await self.finish(file, len(data), hashlib.sha256(data).hexdigest())

    def _append(self, file: str, offset: int, data: bytes) -> int:
        if self._place(file).exists():  # a request that was repeated after the end
            return os.stat(self._place(file)).st_size
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(self._upload(file), flags, 0o600)
        try:
            end = os.fstat(descriptor).st_size
            if offset != end:
                return end
            rest, at = memoryview(data), offset
            while rest:
                written = os.pwrite(descriptor, rest, at)
                rest, at = rest[written:], at + written
            return at
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, offset)  # the part comes again
            raise
        finally:
            os.close(descriptor)

    def _finish(self, file: str, size: int, sha256: str) -> None:
        place, upload = self._place(file), self._upload(file)
        if place.exists():
            return
        digest, length = hashlib.sha256(), 0
        try:
            descriptor = os.open(upload, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise StoreAway("another request has just stored this file: try again") from None
        try:
            while data := os.read(descriptor, READ_BYTES):
                digest.update(data)
                length += len(data)
            if (length, digest.hexdigest()) != (size, sha256):
                upload.unlink(missing_ok=True)
                raise WrongContent("the stored content does not have the announced SHA-256")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):  # a repeated request has just done it
            upload.rename(place)
        for folder in (place.parent, place.parent.parent):
            _sync(folder)

    def _read(self, file: str, offset: int, limit: int) -> bytes:
        try:
            descriptor = os.open(self._place(file), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            _log.error("%s is not there, but the database refers to it", self._place(file))
            raise ContentGone("its content is not in the store any more") from None
        try:
            return os.pread(descriptor, limit, offset)
        finally:
            os.close(descriptor)

    def _remove(self, file: str) -> None:
        self._place(file).unlink(missing_ok=True)

    # --- Names ------------------------------------------------------------------------------

    def _place(self, file: str) -> Path:
        assert NAME.fullmatch(file), file
        shelf = hashlib.sha256(file.encode()).hexdigest()[:2]
        return self.path / FILES / shelf / file

    def _upload(self, file: str) -> Path:
        assert NAME.fullmatch(file), file
        return self.path / UPLOADS / file

    # --- Sweeping ---------------------------------------------------------------------------

    def old_files(self, shelf: int, before: float) -> list[str]:
        """Return files of a shelf, 0 to SHELVES - 1, last changed before this time. Blocking."""
        return [entry.name for entry in _old(self.path / FILES / f"{shelf:02x}", before)]

    def remove_old_uploads(self, before: float) -> int:
        """Remove incomplete files that are old; return how many. Blocking."""
        count = 0
        for entry in _old(self.path / UPLOADS, before):
            Path(entry.path).unlink(missing_ok=True)
            count += 1
        return count


def _old(folder: Path, before: float) -> Iterator[os.DirEntry[str]]:
    try:
        entries = os.scandir(folder)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    yield entry


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


async def _in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run it in a thread; an error of the disk is StoreAway, because it may pass."""
    try:
        return await asyncio.to_thread(work, *args, **kwargs)
    except OSError as error:
        message = f"the store for files cannot be used: {error.strerror}"
        raise disk_full(message) if error.errno in _FULL else StoreAway(message) from None
