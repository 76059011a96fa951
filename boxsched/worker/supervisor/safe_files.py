"""File operations in folders that a job can change.

A job runs as the same user as its supervisor, so it may put links and other things in the place of
any file and folder. Folders are therefore opened once and named by their descriptor (``at``), and
no function here follows a link.

Imported by the spawner: standard library only, and little of it.
"""

import contextlib
import errno
import fcntl
import os
import stat

_PATH = getattr(os, "O_PATH", os.O_RDONLY)  # to name it, also where it cannot be read

FULL_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT})
NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_NO_FILE_OF_OURS = frozenset(
    {errno.ELOOP, errno.ENXIO, errno.ENODEV, errno.EISDIR, errno.EACCES, errno.EPERM}
)
NOTE_BYTES = 64 << 10


class Damaged(Exception):
    """A file says nothing that we wrote: set its folder aside."""


def open_folder(path: str, at: int | None = None) -> int:
    """Raises OSError; NotADirectoryError where it is a link or anything else."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)


def open_or_make(name: str, at: int) -> int:
    """The folder of that name; what stands in its place and is none goes. Raises OSError."""
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
    """A new file, for writing, in the place of whatever stands there. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(name, flags, 0o600, dir_fd=at)
    except FileExistsError:
        remove_tree(at, name)
        return os.open(name, flags, 0o600, dir_fd=at)


def write_file(at: int, name: str, data: bytes, *, durable: bool = False) -> None:
    descriptor = create(at, name)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_regular(at: int, name: str, flags: int) -> int:
    """Never waits and follows no link: a job may have put anything there. Raises Damaged."""
    try:
        descriptor = os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW, 0o600, dir_fd=at)
    except OSError as error:
        if error.errno in _NO_FILE_OF_OURS:
            raise Damaged(f"{name} is no file of ours") from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Damaged(f"{name} is no file of ours")
    return descriptor


def read_file(at: int, name: str, limit: int = NOTE_BYTES) -> bytes | None:
    """None where there is no such file. Raises Damaged, also for one of more than ``limit``."""
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
    """The locked descriptor, or None while another process holds the lock. Raises Damaged."""
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


def remove_tree(at: int, name: str) -> None:
    """Remove a tree, however deep, read-only, or full of links; missing is well.

    Folders are moved up beside it as they are met: no path grows, nothing is recursive.
    """
    waiting, moved = [name], 0
    while waiting:
        top = waiting.pop()
        folder = _open_to_empty(at, top)
        if folder is None:
            continue
        try:
            for entry in os.listdir(folder):
                try:
                    os.unlink(entry, dir_fd=folder)
                except (IsADirectoryError, PermissionError):
                    moved += 1
                    if _move_up(folder, entry, at, f"{name}.{moved}"):
                        waiting.append(f"{name}.{moved}")
                except FileNotFoundError:
                    continue  # someone else removes it too
        finally:
            os.close(folder)
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(top, dir_fd=at)


def _open_to_empty(at: int, name: str) -> int | None:
    """The folder, which may be changed from now on; None where it was none, and is gone."""
    try:
        os.unlink(name, dir_fd=at)
    except FileNotFoundError:
        return None
    except (IsADirectoryError, PermissionError):
        pass
    else:
        return None
    # By its path alone it can be told to be readable; by the descriptor, that no link was followed.
    place = os.open(name, _PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
    try:
        os.chmod(f"/proc/self/fd/{place}", stat.S_IRWXU)
        return open_folder(".", place)
    finally:
        os.close(place)


def _move_up(folder: int, entry: str, at: int, name: str) -> bool:
    """To be renamed, a folder has to be writable: its own ``..`` changes. False where it went."""
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
