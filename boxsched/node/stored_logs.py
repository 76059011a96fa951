"""Logs of jobs, wherever they are: in the database, or in files of ``--log-store``.

A log is written into the database while its job runs. With ``--log-store`` the leading node moves
the logs of finished workloads into files: first the file, then, in one transaction, its row and the
deletion of the chunks. A crash in between leaves a file without a row (``sweeping``).
"""

import asyncio
import contextlib
import hashlib
import logging
import secrets
from collections.abc import Callable

import msgspec

from boxsched.blobs.places import ContentGone, LogStore
from boxsched.clock import Clock
from boxsched.errors import BoxschedError
from boxsched.model import JobId
from boxsched.node.slices import pause_after
from boxsched.store.steps.logs import TimedOutput
from boxsched.store.store import Store

log = logging.getLogger(__name__)

READ_BYTES = 1 << 20
INDEX_BYTES = 64 << 20  # more than the times of a log of any length
MOVE_AFTER_SECONDS = 60.0  # after the end of the workload
LOOK_SECONDS = 5.0  # while another node leads
REST_SECONDS = 60.0  # when nothing is left to move
LOGS_A_SLICE = 20

_times = msgspec.json.Decoder(list[tuple[int, float | None]])


class StoredLogs:
    """``place``: of ``--log-store`` or of the data folder; None: all logs are in the database."""

    def __init__(self, store: Store, place: LogStore | None) -> None:
        self._store = store
        self._files = place

    async def read(self, job: JobId, attempt: int, offset: int, limit: int) -> bytes:
        """Return up to ``limit`` bytes from ``offset``; empty if there are none."""
        data = await self._store.log(job, attempt, offset, limit)
        if data:
            return data
        found = await self._store.log_file(job, attempt)
        if found is None or offset >= found[1]:
            return b""
        return await self._place.read(found[0], offset, min(limit, found[1] - offset))

    async def end(self, job: JobId, attempt: int) -> int:
        """Return the length of a log in bytes; 0 if there is none."""
        size = await self._store.log_end(job, attempt)
        if size:
            return size
        found = await self._store.log_file(job, attempt)
        return 0 if found is None else found[1]

    async def timed(self, job: JobId, attempt: int, offset: int, limit: int) -> list[TimedOutput]:
        """Like ``read``, in pieces, each with the time at which it was stored."""
        chunks = await self._store.log_chunks(job, attempt, offset, limit)
        if chunks:
            return chunks
        found = await self._store.log_file(job, attempt)
        if found is None or offset >= found[1]:
            return []
        file, size = found
        data = await self._place.read(file, offset, min(limit, size - offset))
        times = _times.decode(await self._place.read(file, size, INDEX_BYTES))
        return list(_pieces(data, offset, times))

    @property
    def _place(self) -> LogStore:
        if self._files is None:
            raise ContentGone("this node has no --log-store, where the log is: start it with that")
        return self._files


def _pieces(data: bytes, offset: int, times: list[tuple[int, float | None]]) -> list[TimedOutput]:
    """Divide the data from ``offset`` on. ``times``: the first byte of each chunk, and its time."""
    found = []
    end = offset + len(data)
    following = [first for first, _ in times[1:]]
    for (first, at), stop in zip(times, [*following, end], strict=True):
        if stop > offset and first < end:
            found.append(TimedOutput(data[max(0, first - offset) : stop - offset], at))
    return found


class LogMoving:
    """The task that moves logs of finished workloads into files."""

    def __init__(
        self, store: Store, place: LogStore, clock: Clock, leads: Callable[[], bool]
    ) -> None:
        self._store = store
        self._place = place
        self._clock = clock
        self._leads = leads
        self.moved = 0
        self._job: JobId | None = JobId(0)
        self._fails = False  # so that an outage is logged once

    async def run(self) -> None:
        """Run until cancelled. After an outage the next round tries again."""
        while True:
            began = self._clock.monotonic()
            more = False
            try:
                more = self._leads() and await self.run_once(self._clock.now())
                if self._fails:
                    log.info("logs are moved again")
                self._fails = False
            except BoxschedError as error:
                if not self._fails:
                    log.warning("logs stay in the database for now: %s", error.message)
                self._fails = True
            took = self._clock.monotonic() - began
            rest = REST_SECONDS if self._leads() else LOOK_SECONDS
            await asyncio.sleep(pause_after(took) if more else rest)

    async def run_once(self, now: float) -> bool:
        """Move the next logs; return whether there are more."""
        after = JobId(0) if self._job is None else self._job
        found, self._job = await self._store.finished_logs(
            after, now - MOVE_AFTER_SECONDS, LOGS_A_SLICE
        )
        for job, attempt in found:
            await self._move(job, attempt)
        return self._job is not None

    async def _move(self, job: JobId, attempt: int) -> None:
        file = f"log-{job}-{attempt}-{secrets.token_hex(8)}"
        try:
            size = await self._copy(job, attempt, file)
        except BoxschedError:
            with contextlib.suppress(BoxschedError):  # what stays is removed after a day
                await self._place.abandon(file)
            raise
        if await self._store.move_log(job, attempt, file, size):
            self.moved += 1
        else:
            await self._place.remove(file)

    async def _copy(self, job: JobId, attempt: int, file: str) -> int:
        """Write the log, and behind it the times of its chunks; return the log's size in bytes."""
        times: list[tuple[int, float | None]] = []
        digest, pending, size = hashlib.sha256(), b"", 0
        while part := await self._store.log_chunks(job, attempt, size, READ_BYTES):
            if pending:
                await self._place.append(file, size - len(pending), pending)
            for one in part:
                times.append((size, one.stored_at))
                size += len(one.data)
            pending = b"".join(one.data for one in part)
            digest.update(pending)
        begin = size - len(pending)
        index = msgspec.json.encode(times)
        digest.update(index)
        pending += index
        if not begin:
            await self._place.write(file, pending, digest.hexdigest())
        else:
            await self._place.append(file, begin, pending)
            await self._place.finish(file, size + len(index), digest.hexdigest())
        return size
