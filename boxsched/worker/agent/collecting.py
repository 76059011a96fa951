"""Find the files of a finished job's workspace that match patterns.

The job has made the workspace and may be hostile. No link is followed, and nothing outside of the
workspace is opened: each folder is opened by its name in the one before. Only regular files count.
A file with several hard links counts only if it belongs to the workspace's own user, because a job
can link to files that it cannot read.
"""

import os
import stat
from collections.abc import Iterator, Sequence

import attrs

from boxsched.file_paths import MAX_PARTS, unsafe
from boxsched.globs import Automaton
from boxsched.worker.supervisor import safe_files

MAX_ENTRIES = 500_000  # files and folders of a workspace that are looked at
_WILD = "*?["
GIT = ".git"


class TooManyFiles(Exception):
    """More files match than are allowed; the message says so."""


@attrs.frozen
class MatchedFile:
    path: str
    size: int
    mode: int
    mtime_ns: int
    target: str | None = None  # of a link; None: a file


@attrs.define
class Collected:
    files: list[MatchedFile] = attrs.field(factory=list)
    left_out: list[str] = attrs.field(factory=list)  # paths with the reason


class Patterns:
    """Patterns of files. One that matches a folder takes everything in it."""

    def __init__(self, patterns: Sequence[str]) -> None:
        clean = [pattern.removeprefix("./").removesuffix("/") for pattern in patterns]
        self._automaton = Automaton(clean)
        self._begins = [_literal(pattern) for pattern in clean]
        self.takes_git = any(pattern.startswith(GIT) for pattern in clean)

    def match(self, path: str) -> bool:
        return self._automaton.first_match(path) is not None

    def may_be_in(self, folder: str) -> bool:
        """Whether a file below the folder may match."""
        inside = f"{folder}/"
        return any(begin.startswith(inside) or inside.startswith(begin) for begin in self._begins)


def _literal(pattern: str) -> str:
    """Return the part of a pattern before its first special character."""
    return pattern[: min((at for at in map(pattern.find, _WILD) if at >= 0), default=len(pattern))]


def collect(
    workspace: int, patterns: Sequence[str], at_most: int, *, links: bool = False
) -> Collected:
    """Return the matching files, by path. Raises TooManyFiles, OSError. Blocking.

    ``links``: also return links that stay in the workspace.
    """
    walk = _Walk(workspace, Patterns(patterns), at_most, links)
    walk.folder(workspace, "", taken=False)
    walk.found.files.sort(key=lambda file: file.path)
    return walk.found


class _Walk:
    def __init__(self, workspace: int, patterns: Patterns, at_most: int, links: bool) -> None:
        self.found = Collected()
        self._patterns = patterns
        self._at_most = at_most
        self._links = links
        its = os.fstat(workspace)
        self._owner, self._device = its.st_uid, its.st_dev
        self._entries = 0

    def folder(self, at: int, path: str, *, taken: bool, depth: int = 0) -> None:
        """Look at one folder. ``taken``: a pattern matched it or a folder around it."""
        for name in sorted(os.listdir(at)):
            self._entries += 1
            if self._entries > MAX_ENTRIES:
                raise TooManyFiles(f"the workspace has more than {MAX_ENTRIES} files")
            inner = f"{path}/{name}" if path else name
            if inner == GIT and not self._patterns.takes_git:
                continue
            try:
                its = os.stat(name, dir_fd=at, follow_symlinks=False)
            except FileNotFoundError:
                continue
            matches = taken or self._match(inner)
            if stat.S_ISDIR(its.st_mode):
                if matches or self._patterns.may_be_in(inner):
                    self._go_into(at, name, inner, matches, depth + 1)
            elif matches:
                self._take(at, name, inner, its)

    def _match(self, path: str) -> bool:
        return unsafe(path) is None and self._patterns.match(path)

    def _go_into(self, at: int, name: str, path: str, taken: bool, depth: int) -> None:
        if depth >= MAX_PARTS:
            self._leave(path, "too many folders inside one another")
            return
        try:
            inner = safe_files.open_folder(name, at)
        except OSError as error:
            self._leave(path, os.strerror(error.errno or 0))
            return
        try:
            if os.fstat(inner).st_dev != self._device:
                self._leave(path, "another file system")
            else:
                self.folder(inner, path, taken=taken, depth=depth)
        finally:
            os.close(inner)

    def _take(self, at: int, name: str, path: str, its: os.stat_result) -> None:
        wrong = unsafe(path)
        target = None
        if wrong is None and stat.S_ISLNK(its.st_mode):
            target = os.readlink(name, dir_fd=at) if self._links else None
            wrong = None if target is not None else "a link"
        elif wrong is None and not stat.S_ISREG(its.st_mode):
            wrong = "not a regular file"
        elif wrong is None and its.st_nlink > 1 and its.st_uid != self._owner:
            wrong = "a hard link to a file of another user"
        if wrong is not None:
            self._leave(path, wrong)
            return
        if len(self.found.files) >= self._at_most:
            raise TooManyFiles(f"more than {self._at_most} files match")
        mode = stat.S_IMODE(its.st_mode) & 0o777
        size = 0 if target is not None else its.st_size
        self.found.files.append(MatchedFile(path, size, mode, its.st_mtime_ns, target))

    def _leave(self, path: str, why: str) -> None:
        if len(self.found.left_out) < self._at_most:
            self.found.left_out.append(f"{path[:80]!a} ({why})")


def open_found(workspace: int, path: str) -> int:
    """Open a file of the workspace for reading, without following a link. Raises Damaged, OSError.

    Raises Damaged for anything else than a regular file, also in the place of a folder.
    """
    at = os.dup(workspace)
    *folders, name = path.split("/")
    try:
        for part in folders:
            try:
                inner = safe_files.open_folder(part, at)
            except NotADirectoryError:
                raise safe_files.Damaged(f"{part} is not a folder any more") from None
            os.close(at)
            at = inner
        return safe_files.open_regular(at, name, os.O_RDONLY)
    finally:
        os.close(at)


def pieces(file: int, size: int) -> Iterator[bytes]:
    """Yield the file's content."""
    while data := os.read(file, size):
        yield data
