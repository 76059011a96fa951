"""Packs: files of a workspace in one file, and how they are put into another workspace.

A pack begins with MAGIC. Each member is one line of JSON, ``["f", path, mode, size, mtime_ns]``,
and then the file's bytes; or ``["l", path, target]``, a link. The last line is ``["end", count]``.
There is no compression, so a pack never becomes larger, and no kind of member but these two: no
device, no hard link, no owner.

``unpack`` trusts nothing in a pack. It checks each path, and opens each folder on the way to a file
without following links: so it writes only into the workspace, whatever is there.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import errno
import json
import os
from collections.abc import Callable, Iterator
from typing import IO, NamedTuple

from boxsched.file_paths import unsafe
from boxsched.worker.supervisor import safe_files

MAGIC = b"boxsched-pack 1\n"
MAX_LINE_BYTES = 16 << 10
MAX_MEMBERS = 200_000
COPY_BYTES = 1 << 20
_IN_THE_WAY = frozenset(
    {errno.ENOTDIR, errno.ELOOP, errno.EEXIST, errno.EISDIR, errno.EACCES, errno.EPERM}
)


class BadPack(Exception):
    """It was not written completely, or not by us; the message says what is wrong."""


class InTheWay(Exception):
    """A file cannot be put into the workspace, because of what is there."""


class Unpacked(NamedTuple):
    files: int
    size: int  # bytes
    in_the_way: int = 0  # files that were left out
    complete: bool = True  # False: ``go_on`` returned False


# --- Writing ----------------------------------------------------------------------------------


def member(path: str, mode: int, size: int, mtime_ns: int) -> bytes:
    """Return the line before a file's bytes."""
    return json.dumps(["f", path, mode, size, mtime_ns]).encode() + b"\n"


def link(path: str, target: str) -> bytes:
    return json.dumps(["l", path, target]).encode() + b"\n"


def end(members: int) -> bytes:
    return json.dumps(["end", members]).encode() + b"\n"


# --- Reading ----------------------------------------------------------------------------------


def unpack(
    pack: IO[bytes],
    workspace: int,
    *,
    replace: bool,
    give: Callable[[int], None] = lambda descriptor: None,
    give_link: Callable[[str, int], None] = lambda name, at: None,
    go_on: Callable[[], bool] = lambda: True,
) -> Unpacked:
    """Put the pack's files into the workspace. Raises BadPack, OSError, and InTheWay.

    ``replace``: a file replaces one of its name, and nothing may be in its way. Otherwise it gives
    way to what is there. ``give``, ``give_link``: called with each new file, folder and link.
    ``go_on``: called often; False ends the work.
    """
    if pack.read(len(MAGIC)) != MAGIC:
        raise BadPack("it is not a pack")
    files = size = left_out = 0
    while True:
        one = _next_member(pack)
        if one is None:
            if files + left_out != _last_count(pack):
                raise BadPack("its end does not match")
            return Unpacked(files, size, left_out)
        if files + left_out >= MAX_MEMBERS:
            raise BadPack(f"it has more than {MAX_MEMBERS} files")
        if not go_on():
            return Unpacked(files, size, left_out, complete=False)
        try:
            with _folder_of(workspace, one.path, give) as folder:
                name = one.path.rpartition("/")[2]
                if replace:
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=folder)
                if one.target is None:
                    _put_file(pack, folder, name, one, give, go_on)
                else:
                    os.symlink(one.target, name, dir_fd=folder)
                    give_link(name, folder)
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            if replace:
                raise InTheWay(f"{one.path}: {os.strerror(error.errno)}") from None
            left_out += 1
            pack.seek(one.size, os.SEEK_CUR)
            continue
        files += 1
        size += one.size


class _Member(NamedTuple):
    path: str
    mode: int = 0
    size: int = 0
    mtime: int = 0
    target: str | None = None  # of a link


def _next_member(pack: IO[bytes]) -> _Member | None:
    """Return the next member, checked; None at the end. Raises BadPack."""
    before = pack.tell()
    line = pack.readline(MAX_LINE_BYTES)
    match _json(line):
        case ["end", int()]:
            pack.seek(before)
            return None
        case ["f", str(path), int(mode), int(size), int(mtime)] if (
            0 <= mode <= 0o777 and 0 <= size < 1 << 63 and abs(mtime) < 1 << 63
        ):
            found = _Member(path, mode, size, mtime)
        case ["l", str(path), str(target)] if leads_inside(path, target):
            found = _Member(path, target=target)
        case _:
            raise BadPack("a member has an unknown form")
    wrong = unsafe(found.path)
    if wrong is not None:
        raise BadPack(f"the path {found.path[:80]!a} {wrong}")
    return found


def _last_count(pack: IO[bytes]) -> int:
    """Return the number of members that the last line says. Raises BadPack if more follows."""
    said = _json(pack.readline(MAX_LINE_BYTES))
    if pack.read(1):
        raise BadPack("something follows its end")
    assert isinstance(said, list)
    return int(said[1])


def _json(line: bytes) -> object:
    if not line.endswith(b"\n"):
        raise BadPack("it ends too early, or a line is too long")
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise BadPack("a line is not JSON") from None


def leads_inside(path: str, target: str) -> bool:
    """Whether a link stays in its workspace, as far as its text says."""
    if not target or target.startswith("/") or "\0" in target or len(target) > MAX_LINE_BYTES // 4:
        return False
    depth = path.count("/")
    for part in target.split("/"):
        depth += 0 if part in ("", ".") else -1 if part == ".." else 1
        if depth < 0:
            return False
    return True


@contextlib.contextmanager
def _folder_of(workspace: int, path: str, give: Callable[[int], None]) -> Iterator[int]:
    """Open the folder of a path, without following links; make what is missing."""
    at = os.dup(workspace)
    try:
        for part in path.split("/")[:-1]:
            try:
                inner = safe_files.open_folder(part, at)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=at)
                inner = safe_files.open_folder(part, at)
                os.fchmod(inner, 0o755)
                give(inner)
            os.close(at)
            at = inner
        yield at
    finally:
        os.close(at)


def _put_file(
    pack: IO[bytes],
    folder: int,
    name: str,
    one: _Member,
    give: Callable[[int], None],
    go_on: Callable[[], bool],
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    file = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        left = one.size
        while left:
            data = pack.read(min(left, COPY_BYTES))
            if not data:
                raise BadPack("it ends within a file")
            safe_files.write_all(file, data)
            left -= len(data)
            if left and not go_on():
                pack.seek(left, os.SEEK_CUR)
                break
        os.fchmod(file, one.mode)
        give(file)
        os.utime(file, ns=(one.mtime, one.mtime))
    finally:
        os.close(file)
