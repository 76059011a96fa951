"""Get what a job is given before it begins: files of the cache, and the artifacts of its build.

The agent puts them into the attempt's folder, as packs; the supervisor unpacks them into the
workspace before the job's commands. Each attempt has a task of its own, and begins when it is done.
"""

import asyncio
import functools
import hashlib
import os
from collections.abc import Callable, Iterable

from boxsched.errors import BoxschedError
from boxsched.protocol.artifacts import ArtifactFile
from boxsched.worker.agent.attempt import Attempt, Phase
from boxsched.worker.agent.attempt_watcher import in_thread
from boxsched.worker.agent.cache import CacheFolder
from boxsched.worker.agent.transfers import Key, Transfers, until_done
from boxsched.worker.agent.workspaces import note
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import packs, safe_files
from boxsched.worker.supervisor.folder import Ended

AT_ONCE = 4


class Furnishing:
    """``begin`` starts what is due; ``Attempt.furnished`` says when the attempt may begin."""

    def __init__(
        self,
        transfers: Transfers | None,
        cache: Callable[[], CacheFolder],
        clock: Callable[[], float],
        done: Callable[[], None],
    ) -> None:
        self._transfers = transfers
        self._cache = cache
        self._clock = clock
        self._done = done
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[Key, asyncio.Task[None]] = {}

    def begin(self, attempts: Iterable[Attempt]) -> None:
        for attempt in attempts:
            due = attempt.phase is Phase.PREPARED and not attempt.furnished
            if due and attempt.key not in self._tasks:
                task = asyncio.create_task(self._furnish(attempt), name=f"files for {attempt.name}")
                self._tasks[attempt.key] = task

    def cancel(self, attempt: Attempt) -> None:
        """The attempt does not begin."""
        task = self._tasks.get(attempt.key)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _furnish(self, attempt: Attempt) -> None:
        try:
            async with self._turns:
                if attempt.record.cache is not None:
                    await self._find_cache(attempt)
                if attempt.record.is_given:
                    await self._get_artifacts(attempt)
        except (BoxschedError, OSError, safe_files.Damaged) as error:
            reason = error.message if isinstance(error, BoxschedError) else str(error)
            full = isinstance(error, OSError) and error.errno in safe_files.FULL_ERRORS
            said = (
                files.DISK_FULL if full else f"the artifacts of its build cannot be got: {reason}"
            )
            ended = Ended("failed", None, None, False, said, None, self._clock(), not_begun=full)
            await in_thread(attempt.void, ended)
        finally:
            self._tasks.pop(attempt.key, None)
        attempt.furnished = True
        self._done()

    async def _find_cache(self, attempt: Attempt) -> None:
        wanted = attempt.record.cache
        assert wanted is not None
        try:
            said = await in_thread(self._cache().find, wanted, attempt, files.CACHE_PACK)
        except OSError as error:
            said = f"the cache cannot be used: {error}"
        if said:
            note(attempt, said)

    async def _get_artifacts(self, attempt: Attempt) -> None:
        transfers, key = self._transfers, attempt.key
        if transfers is None:
            raise OSError("this worker has no store for them")
        given = await until_done(lambda: transfers.given(key))
        new = f"{files.GIVEN_PACK}.new"
        pack = safe_files.create(attempt.folder.at, new)
        try:
            await in_thread(safe_files.write_all, pack, packs.MAGIC)
            for one in given:
                await self._get(key, one, pack)
            await in_thread(safe_files.write_all, pack, packs.end(len(given)))
        finally:
            os.close(pack)
        safe_files.rename(attempt.folder.at, new, files.GIVEN_PACK)

    async def _get(self, key: Key, one: ArtifactFile, pack: int) -> None:
        transfers = self._transfers
        assert transfers is not None
        mode = 0o755 if one.executable else 0o644
        mtime = int(self._clock() * 1e9)
        await in_thread(safe_files.write_all, pack, packs.member(one.path, mode, one.size, mtime))
        digest, offset = hashlib.sha256(), 0
        while offset < one.size:
            data = await until_done(functools.partial(transfers.get, key, one, offset))
            if not data:
                raise OSError(f"{one.path} ends too early")
            digest.update(data)
            offset += len(data)
            await in_thread(safe_files.write_all, pack, data)
        if digest.hexdigest() != one.sha256 or offset != one.size:
            raise OSError(f"the content of {one.path} is not what was kept")
