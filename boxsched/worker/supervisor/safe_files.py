"""File operations in folders that a job can change.

A job runs as the same user as its supervisor, so it can replace any file and folder by a link or
something else. Folders are therefore opened once and named by their descriptor (``at``), and no
function here follows a link.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Callable

_PATH = getattr(os, "O_PATH", os.O_RDONLY)  # opens a folder even without the right to read it

FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NO_FILE_OF_OURS = frozenset(
    {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EACCES, errno.EPERM}
)
NOTE_BYTES = 64 << 10


class Damaged(Exception):
    """A file has a content that we did not write: set its folder aside."""


def open_folder(path: str, at: int | None = None) -> int:
    """Return a descriptor of the folder. Raises OSError: NotADirectoryError for a link or file."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)


def open_or_make(name: str, at: int) -> int:
    """Open the folder; make it if it is missing, in place of anything else. Raises OSError."""
    try:
        os.mkdir(name, 0o700, dir_fd=at)
    except FileExistsError:
        if not stat.S_ISDIR(os.stat(name, dir_fd=at, follow_symlinks=False).st_mode):
            os.unlink(name, dir_fd=at)
            os.mkdir(name, 0o700, dir_fd=at)
    return open_folder(name, at)


# --- Whole files ----------------------------------------------------------------------------


def write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def create(at: int, name: str) -> int:
    """Create a file for writing; it replaces anything of that name. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(name, flags, 0o600, dir_fd=at)
    except FileExistsError:
        remove_tree(at, name)
        return os.open(name, flags, 0o600, dir_fd=at)


def write_file(
    at: int,
    name: str,
    data: bytes,
    *,
    durable: bool = False,
    give: Callable[[int], None] = lambda descriptor: None,
) -> None:
    """Write a whole file. ``give`` may change its owner."""
    descriptor = create(at, name)
    try:
        give(descriptor)
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(at: int, name: str, flags: int) -> int:
    """Open a regular file without blocking and without following a link. Raises Damaged."""
    try:
        descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600, dir_fd=at)
    except OSError as error:
        if error.errno in _NO_FILE_OF_OURS:
            raise Damaged(f"{name} is not a file of this worker") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged(f"{name} is not a file of this worker")
    return descriptor


def read_file(at: int, name: str, limit: int = NOTE_BYTES) -> bytes | None:
    """Return a file's content, None if it is missing. Raises Damaged if it exceeds ``limit``."""
    try:
        descriptor = open_regular(at, name, os.O_RDONLY)
    except FileNotFoundError:
        return None
    with open(descriptor, "rb", buffering=0) as file:
        data = b""
        while len(data) <= limit and (part := file.read(limit + 1 - len(data))):
            data += part
    if len(data) > limit:
        raise Damaged(f"{name} is too large")
    return data


def exists(at: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=at, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def rename(at: int, name: str, new: str) -> None:
    os.rename(name, new, src_dir_fd=at, dst_dir_fd=at)


# --- Locks ----------------------------------------------------------------------------------


def try_lock(at: int, name: str) -> int | None:
    """Return the locked descriptor, None if another process holds the lock. Raises Damaged."""
    descriptor = open_regular(at, name, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError):
            return None
        raise
    return descriptor


# --- Removal --------------------------------------------------------------------------------


def remove_tree(at: int, name: str, most: int | None = None) -> list[str]:
    """Remove a tree, even if it is very deep, read-only or full of links, or missing.

    With ``most`` it stops before a folder with which it would remove more entries than that, and
    returns the trees that are left, to be removed in this order. Subfolders are moved up to the
    level of the tree itself. So no path becomes too long, and there is no recursion.
    """
    waiting, moved, seen = [name], 0, 0
    while waiting:
        top = waiting.pop()
        folder = _open_to_empty(at, top)
        if folder is None:
            continue
        try:
            entries = os.listdir(folder)
            seen += len(entries)
            if most is not None and seen > most:
                return [*waiting, top]
            for entry in entries:
                try:
                    os.unlink(entry, dir_fd=folder)
                except (IsADirectoryError, PermissionError):
                    moved += 1
                    if _move_up(folder, entry, at, f"{name}.{moved}"):
                        waiting.append(f"{name}.{moved}")
                except FileNotFoundError:
                    continue  # another process has removed it
        finally:
            os.close(folder)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(top, dir_fd=at)
    return []


def _open_to_empty(at: int, name: str) -> int | None:
    """Open a folder and make it writable; return None if it was not a folder: it is removed."""
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return None
    except (IsADirectoryError, PermissionError):
        pass
    else:
        return None
    # O_PATH opens a folder that is not readable; the descriptor proves that no link was followed.
    place = os.open(name, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
    try:
        os.chmod(f"/proc/self/fd/{place}", stat.S_IRWXU)
        return open_folder(".", place)
    finally:
        os.close(place)


def _move_up(folder: int, entry: str, at: int, name: str) -> bool:
    """Move a subfolder up; make it writable first, because its ``..`` changes.

    Return False if it is gone.
    """
    try:
        place = os.open(entry, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
    except FileNotFoundError:
        return False
    try:
        os.chmod(f"/proc/self/fd/{place}", stat.S_IRWXU)
        os.rename(entry, name, src_dir_fd=folder, dst_dir_fd=at)
    except FileNotFoundError:
        return False
    finally:
        os.close(place)
    return True
