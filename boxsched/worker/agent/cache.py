"""The cache of a worker: packs of files that jobs of a project find again, on this machine's disk.

Each project and key has at most one pack, ``KEY-SHA256.pack``. The name contains the hash of the
content, so a damaged pack is recognized; it is removed, and the job begins without it. When the
packs exceed the limit, those that were not used for the longest time are removed.
"""

import contextlib
import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import attrs

from boxsched.worker.agent import savings
from boxsched.worker.agent.attempt import Attempt
from boxsched.worker.agent.collecting import MatchedFile, collect, open_found, pieces
from boxsched.worker.agent.workspaces import counted, shown_size, workspace
from boxsched.worker.supervisor import packs, safe_files
from boxsched.worker.supervisor.folder import CacheUse
from boxsched.worker.supervisor.packs import COPY_BYTES

FOLDER = "cache"
DEFAULT_CACHE_BYTES = 2 << 30
_SUFFIX = ".pack"


@attrs.define
class CacheFigures:
    """What the cache has done since the start."""

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    restored_bytes: int = 0
    kept_bytes: int = 0
    saved_milliseconds: int = 0  # of jobs that took less time than without a cache
    lost_milliseconds: int = 0  # of jobs that took more


class _Pack(NamedTuple):
    name: str
    size: int
    used_at: float

    @property
    def key(self) -> str:
        return self.name.partition("-")[0]


class CacheFolder:
    """All methods block. ``at``: the agent's folder. ``limit``: bytes of all packs together."""

    def __init__(self, at: int, limit: int, figures: CacheFigures) -> None:
        self._site = at
        self._limit = limit
        self._figures = figures

    def find(self, wanted: CacheUse, attempt: Attempt, name: str) -> str:
        """Link the pack for a job into its folder as ``name``; return a line for its log."""
        if self._limit <= 0:
            return ""
        damaged, began = "", time.monotonic()
        with self._opened() as folder:
            for key in wanted.keys:
                for pack in self._packs(folder, _hash(wanted, key)):
                    if not _is_whole(folder, pack):
                        self._figures.damaged += 1
                        _drop(folder, pack.name)
                        damaged = f"the cache of {key} is damaged and was removed; "
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        os.unlink(name, dir_fd=attempt.folder.at)
                    os.link(pack.name, name, src_dir_fd=folder, dst_dir_fd=attempt.folder.at)
                    os.utime(pack.name, dir_fd=folder)
                    self._figures.hits += 1
                    attempt.cached, attempt.cache_seconds = True, time.monotonic() - began
                    self._figures.restored_bytes += pack.size
                    return f"{damaged}cache of {key}, {shown_size(pack.size)}"
        self._figures.misses += 1
        attempt.cached, attempt.cache_seconds = False, time.monotonic() - began
        return f"{damaged}no cache of {' or '.join(wanted.keys) or 'this project'} yet"

    def keep(self, attempt: Attempt, wanted: CacheUse, go_on: Callable[[Attempt], None]) -> str:
        """Keep the matching files of an ended attempt; return a line for its log.

        Raises TooManyFiles, Damaged, OSError.
        """
        if self._limit <= 0 or wanted.keep is None:
            return ""
        key = _hash(wanted, wanted.keep)
        with workspace(attempt) as at, self._opened() as folder:
            found = collect(at, wanted.patterns, packs.MAX_MEMBERS, links=True)
            size = sum(file.size for file in found.files)
            if not found.files:
                return f"cache: no file matches {', '.join(wanted.patterns)}"
            if size > self._limit:
                return (
                    f"the cache was not kept: {shown_size(size)}, more than this worker's "
                    f"--cache-size of {shown_size(self._limit)}"
                )
            new = f"new-{secrets.token_hex(8)}"
            try:
                digest, size, files = _write(folder, new, at, found.files, attempt, go_on)
                name = f"{key}-{digest}{_SUFFIX}"
                before = [pack.name for pack in self._packs(folder, key)]
                if name in before:
                    os.utime(name, dir_fd=folder)
                    return ""
                safe_files.rename(folder, new, name)
                for old in before:
                    _drop(folder, old)
            finally:
                _drop(folder, new)
            self._figures.kept_bytes += size
            self._make_room(folder)
        return f"cache of {wanted.keep}: {counted(files, 'file')} kept, {shown_size(size)}"

    def compare(self, attempt: Attempt) -> None:
        """Count what the cache saved an attempt that has passed. Raises OSError."""
        if self._limit <= 0:
            return
        with self._opened() as folder:
            saved = savings.saved(folder, attempt)
        if saved is not None and saved >= 0:
            self._figures.saved_milliseconds += round(saved * 1_000)
        elif saved is not None:
            self._figures.lost_milliseconds += round(-saved * 1_000)

    def tidy(self) -> None:
        """Remove what an agent left incomplete, and what exceeds the limit."""
        with self._opened() as folder:
            for name in os.listdir(folder):
                if not name.endswith(_SUFFIX) and name != savings.FILE:
                    safe_files.remove_tree(folder, name)
            self._make_room(folder)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        folder = safe_files.open_or_make(FOLDER, self._site)
        try:
            yield folder
        finally:
            os.close(folder)

    def _packs(self, folder: int, key: str | None = None) -> list[_Pack]:
        found = []
        for name in os.listdir(folder):
            if name.endswith(_SUFFIX) and (key is None or name.startswith(f"{key}-")):
                with contextlib.suppress(FileNotFoundError):
                    its = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    found.append(_Pack(name, its.st_size, its.st_mtime))
        return sorted(found, key=lambda pack: -pack.used_at)

    def _make_room(self, folder: int) -> None:
        total = 0
        for pack in self._packs(folder):  # the last used first
            total += pack.size
            if total > self._limit:
                _drop(folder, pack.name)


def _hash(wanted: CacheUse, key: str) -> str:
    """Return the first part of a pack's name. Other patterns are another pack."""
    text = json.dumps([wanted.scope, key, list(wanted.patterns)])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:32]


def _is_whole(folder: int, pack: _Pack) -> bool:
    digest = hashlib.sha256()
    try:
        file = safe_files.open_regular(folder, pack.name, os.O_RDONLY)
    except (OSError, safe_files.Damaged):
        return False
    try:
        for data in pieces(file, COPY_BYTES):
            digest.update(data)
    except OSError:
        return False
    finally:
        os.close(file)
    return pack.name == f"{pack.key}-{digest.hexdigest()}{_SUFFIX}"


def _write(
    folder: int,
    name: str,
    workspace_at: int,
    found: Sequence[MatchedFile],
    attempt: Attempt,
    go_on: Callable[[Attempt], None],
) -> tuple[str, int, int]:
    """Write the pack; return its hash, its size and the number of its files."""
    digest, size, members = hashlib.sha256(), 0, 0

    def put(data: bytes) -> None:
        nonlocal size
        digest.update(data)
        safe_files.write_all(pack, data)
        size += len(data)

    pack = safe_files.create(folder, name)
    try:
        put(packs.MAGIC)
        for one in found:
            go_on(attempt)
            if one.target is not None:
                line = packs.link(one.path, one.target)
                if not packs.leads_inside(one.path, one.target) or len(line) > packs.MAX_LINE_BYTES:
                    continue
                put(line)
            else:
                put(packs.member(one.path, one.mode, one.size, one.mtime_ns))
                file = open_found(workspace_at, one.path)
                left = one.size
                try:
                    while left and (data := os.read(file, min(left, COPY_BYTES))):
                        put(data)
                        left -= len(data)
                finally:
                    os.close(file)
                if left:
                    raise safe_files.Damaged(f"{one.path} has changed")
            members += 1
        put(packs.end(members))
    finally:
        os.close(pack)
    return digest.hexdigest(), size, members


def _drop(folder: int, name: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=folder)
