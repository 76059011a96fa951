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

from boxsched.blobs import places
from boxsched.blobs.places import (
    LOG_STORE,
    NAME,
    ContentGone,
    WrongContent,
    WrongStore,
    write_in_parts,
)
from boxsched.errors import StoreAway, disk_full

READ_BYTES = 1 << 20
OWNER = "belongs-to"  # holds the name of the installation
FILES, UPLOADS = "files", "uploads"
SHELVES = 256
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger(__name__)


class FolderPlace:
    name = LOG_STORE
    read_bytes = places.READ_BYTES

    def __init__(self, path: Path) -> None:
        self.path = path

    async def open(self, cluster: str) -> bool:
        """Make the folder, or check that it is this installation's."""
        await asyncio.to_thread(self._open, cluster)
        return True

    async def owner(self) -> str | None:
        return await asyncio.to_thread(self._owner)

    async def close(self) -> None:
        """Nothing is kept open."""

    def _open(self, cluster: str) -> None:
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
        except OSError as error:
            raise WrongStore(f"{self.path} cannot be used: {error.strerror}") from None
        if self._owner() != cluster:
            raise WrongStore(f"{self.path} belongs to another installation: use another folder")

    def _owner(self) -> str | None:
        try:
            return (self.path / OWNER).read_text().strip()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise WrongStore(f"{self.path} cannot be used: {error.strerror}") from None

    async def length(self, file: str) -> int | None:
        return await _in_thread(self._length, file)

    async def append(self, file: str, offset: int, data: bytes) -> int:
        return await _in_thread(self._append, file, offset, data)

    async def finish(self, file: str, size: int, sha256: str) -> None:
        await _in_thread(self._finish, file, size, sha256)

    async def read(self, file: str, offset: int, limit: int) -> bytes:
        return await _in_thread(self._read, file, offset, limit)

    async def remove(self, file: str) -> None:
        await _in_thread(self._remove, file)

    async def write(self, file: str, data: bytes, sha256: str) -> None:
        await write_in_parts(self, file, data, sha256)

    async def abandon(self, file: str) -> None:
        await _in_thread(self._abandon, file)

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

    def _length(self, file: str) -> int | None:
        try:
            return self._place(file).stat().st_size
        except FileNotFoundError:
            return None

    def _remove(self, file: str) -> None:
        self._place(file).unlink(missing_ok=True)

    def _abandon(self, file: str) -> None:
        self._upload(file).unlink(missing_ok=True)

    # --- Names ------------------------------------------------------------------------------

    def _place(self, file: str) -> Path:
        return self.path / shelved(file)

    def _upload(self, file: str) -> Path:
        assert NAME.fullmatch(file), file
        return self.path / UPLOADS / file

    # --- Sweeping ---------------------------------------------------------------------------

    async def old_files(self, after: str, before: float) -> tuple[list[str], str | None]:
        """``after``: a shelf in hexadecimal digits."""
        shelf = int(after, 16) + 1 if after else 0
        found = await _in_thread(self._old_files, shelf, before)
        return found, f"{shelf:02x}" if shelf + 1 < SHELVES else None

    async def remove_old_uploads(self, before: float) -> int:
        return await _in_thread(self._remove_old_uploads, before)

    def _old_files(self, shelf: int, before: float) -> list[str]:
        return [entry.name for entry in _old(self.path / FILES / f"{shelf:02x}", before)]

    def _remove_old_uploads(self, before: float) -> int:
        count = 0
        for entry in _old(self.path / UPLOADS, before):
            Path(entry.path).unlink(missing_ok=True)
            count += 1
        return count


def shelved(file: str) -> str:
    """Return the path of a complete file in a folder; the same as in a bucket."""
    assert NAME.fullmatch(file), file
    return f"{FILES}/{hashlib.sha256(file.encode()).hexdigest()[:2]}/{file}"


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
