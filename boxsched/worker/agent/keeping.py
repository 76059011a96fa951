"""Keep files of ended jobs: artifacts in the store, the cache on this machine's disk.

An attempt's end is reported only after its artifacts are in the store. So a build that has passed
has all its artifacts, and a deploy of it can rely on them. Each attempt has a task of its own: a
large file delays no other job's report or output.
"""

import asyncio
import functools
import hashlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeVar

from boxsched.errors import BoxschedError, LeaseEnded
from boxsched.protocol.artifacts import MAX_ARTIFACTS, PART_BYTES, ArtifactFile
from boxsched.worker.agent.attempt import Attempt, Phase
from boxsched.worker.agent.attempt_watcher import in_thread
from boxsched.worker.agent.cache import CacheFolder
from boxsched.worker.agent.collecting import Collected, TooManyFiles, collect, open_found, pieces
from boxsched.worker.agent.transfers import Key, Transfers, until_done
from boxsched.worker.agent.workspaces import counted, note, shown_size, workspace
from boxsched.worker.supervisor.safe_files import Damaged

AT_ONCE = 4  # attempts whose files are read at the same time
SHOWN_LEFT_OUT = 5
# The store is asked before more than this is read: a sparse file of terabytes takes no disk, but
# hours to read, and meanwhile other jobs' files would wait.
ASK_FIRST_BYTES = 64 << 20
_NO_HASH = "0" * 64

T = TypeVar("T")

_log = logging.getLogger(__name__)


class NotKept(Exception):
    """The artifacts cannot be kept; the message says why."""


class Cancelled(Exception):
    """Nobody needs the files any more."""


class Keeping:
    """``begin`` starts what is due; ``Attempt.kept`` says when it is done.

    ``transfers`` None: this agent has no store for artifacts.
    """

    def __init__(
        self,
        transfers: Transfers | None,
        cache: Callable[[], CacheFolder],
        wake: Callable[[], None],
    ) -> None:
        self._transfers = transfers
        self._cache = cache
        self._wake = wake
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._cancelled: set[Key] = set()

    def begin(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            due = attempt.phase is Phase.ENDED and not attempt.kept and not attempt.parked
            if due and attempt.key not in self._tasks:
                task = asyncio.create_task(self._keep(attempt), name=f"files of {attempt.name}")
                self._tasks[attempt.key] = task

    def cancel(self, attempt: Attempt) -> None:
        """Keep nothing of this attempt: it was stopped, or its lease has ended."""
        if not attempt.kept and attempt.phase is Phase.ENDED:
            self._cancelled.add(attempt.key)

    async def close(self) -> None:
        """Stop. The next agent begins anew: what is stored already is not sent again."""
        self._cancelled |= self._tasks.keys()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _keep(self, attempt: Attempt) -> None:
        all_kept = False
        try:
            async with self._turns:
                assert attempt.ended is not None
                if attempt.record.keeps_files(attempt.ended):
                    await self._keep_artifacts(attempt)
                    all_kept = True
                    await self._keep_cache(attempt)
                await self._compare(attempt)
        except Cancelled:
            note(attempt, "stopped: nothing more is kept of it")
            if not all_kept:
                _stop(attempt)
        except NotKept as problem:
            _fail(attempt, f"its artifacts were not kept: {problem}")
        except (OSError, Damaged) as error:
            _fail(attempt, f"its artifacts were not kept: {error}")
        finally:
            self._tasks.pop(attempt.key, None)
        self._cancelled.discard(attempt.key)
        attempt.kept = True
        self._wake()

    # --- Artifacts --------------------------------------------------------------------------

    async def _keep_artifacts(self, attempt: Attempt) -> None:
        patterns = attempt.record.artifacts
        if not patterns:
            return
        if self._transfers is None:
            raise NotKept("this worker has no store for them")
        found = await in_thread(_find, attempt, patterns)
        if found.left_out:
            more = len(found.left_out) - SHOWN_LEFT_OUT
            shown = ", ".join(found.left_out[:SHOWN_LEFT_OUT])
            note(attempt, f"not kept: {shown}" + (f" and {more} more" if more > 0 else ""))
        if not found.files:
            note(attempt, f"artifacts: no file matches {', '.join(patterns)}")
            return
        try:
            await self._ask_first(attempt, found)
            kept = await in_thread(self._hashed, attempt, found)
            await self._send(attempt, kept)
        except LeaseEnded:
            raise Cancelled from None
        except BoxschedError as error:
            raise NotKept(error.message) from None
        size = shown_size(sum(file.size for file in kept))
        note(attempt, f"artifacts: {counted(len(kept), 'file')} kept, {size}")

    async def _ask_first(self, attempt: Attempt, found: Collected) -> None:
        """Let the store refuse large files before they are read. Raises what it raises."""
        transfers, key = self._transfers, attempt.key
        assert transfers is not None
        if sum(file.size for file in found.files) > ASK_FIRST_BYTES:
            sizes = [ArtifactFile(file.path, file.size, _NO_HASH) for file in found.files]
            await self._repeat(attempt, lambda: transfers.missing(key, sizes))

    def _hashed(self, attempt: Attempt, found: Collected) -> list[ArtifactFile]:
        """Return the files with their hashes. Raises Damaged, OSError, Cancelled. Blocking."""
        kept = []
        with workspace(attempt) as at:
            for one in found.files:
                digest, size = hashlib.sha256(), 0
                file = open_found(at, one.path)
                try:
                    for data in pieces(file, PART_BYTES):
                        self._go_on(attempt)
                        digest.update(data)
                        size += len(data)
                finally:
                    os.close(file)
                executable = bool(one.mode & 0o100)
                kept.append(ArtifactFile(one.path, size, digest.hexdigest(), executable))
        return kept

    async def _send(self, attempt: Attempt, kept: Sequence[ArtifactFile]) -> None:
        transfers, key = self._transfers, attempt.key
        assert transfers is not None
        missing = set(await self._repeat(attempt, lambda: transfers.missing(key, kept)))
        for one in kept:
            if one.path not in missing:
                continue
            offset: int | None = 0
            while offset is not None:
                data = await in_thread(_part, attempt, one, offset)
                put = functools.partial(transfers.put, key, one, offset, data)
                offset = await self._repeat(attempt, put)

    async def _repeat(self, attempt: Attempt, call: Callable[[], Awaitable[T]]) -> T:
        async def once() -> T:
            self._go_on(attempt)
            return await call()

        return await until_done(once)

    def _go_on(self, attempt: Attempt) -> None:
        if attempt.key in self._cancelled or attempt.stale:
            raise Cancelled

    # --- The cache --------------------------------------------------------------------------

    async def _keep_cache(self, attempt: Attempt) -> None:
        wanted = attempt.record.cache
        if wanted is None or wanted.keep is None or not _has_passed(attempt):
            return
        try:
            said = await in_thread(self._cache().keep, attempt, wanted, self._go_on)
        except (TooManyFiles, Damaged, OSError) as error:
            said = f"the cache was not kept: {error}"
        if said:
            note(attempt, said)

    async def _compare(self, attempt: Attempt) -> None:
        """Count the time that the cache saved; that it cannot be counted is no harm to the job."""
        if attempt.cached is None or not _has_passed(attempt):
            return
        try:
            await in_thread(self._cache().compare, attempt)
        except OSError as error:
            _log.warning("%s: the time that its cache saved: %s", attempt.name, error)


def _has_passed(attempt: Attempt) -> bool:
    return attempt.ended is not None and attempt.ended.result == "passed"


def _find(attempt: Attempt, patterns: Sequence[str]) -> Collected:
    try:
        with workspace(attempt) as at:
            return collect(at, patterns, MAX_ARTIFACTS)
    except TooManyFiles as problem:
        raise NotKept(str(problem)) from None


def _part(attempt: Attempt, file: ArtifactFile, offset: int) -> bytes:
    with workspace(attempt) as at:
        descriptor = open_found(at, file.path)
        try:
            data = os.pread(descriptor, min(PART_BYTES, file.size - offset), offset)
        finally:
            os.close(descriptor)
    if len(data) != min(PART_BYTES, file.size - offset):
        raise NotKept(f"{file.path} has changed while it was stored")
    return data


def _stop(attempt: Attempt) -> None:
    """Count a job that passed as stopped: some of its artifacts are missing.

    A node stops a job at its time limit, too, and without this its build would pass.
    """
    assert attempt.ended is not None
    if attempt.ended.result == "passed" and attempt.record.artifacts:
        attempt.ended = attempt.ended._replace(result="stopped", reason="stopped")


def _fail(attempt: Attempt, reason: str) -> None:
    """Note the problem. A job that passed fails: nobody must rely on artifacts that are not there.

    A later agent finds the same.
    """
    note(attempt, reason)
    _log.warning("%s: %s", attempt.name, reason)
    assert attempt.ended is not None
    if attempt.ended.result == "passed" and attempt.record.artifacts:
        attempt.ended = attempt.ended._replace(result="failed", reason=reason)
