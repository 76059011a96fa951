"""SQLite's reading connections of one use, each with a thread.

The threads keep disk access off the event loop. If the use has a deadline, a read beyond it is
stopped, and a read that gets no connection in time is refused.
"""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from boxsched.errors import StoreAway, TooLong
from boxsched.store.blocks import Call, Steps
from boxsched.store.driver import ACQUIRE_SECONDS, advanced
from boxsched.store.sqlite.connection import SqliteConnection
from boxsched.store.sqlite.errors import translating

T = TypeVar("T")

STEPS_BETWEEN_LOOKS = 10_000  # steps of SQLite's virtual machine: some tenths of a millisecond


class Readers:
    """``count`` connections. ``seconds``: the deadline of a read; None: no deadline."""

    def __init__(self, path: Path, use: str, count: int, seconds: float | None = None) -> None:
        self._path = path
        self._count = count
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(count, f"store-{use}")
        self._places = asyncio.Semaphore(count)
        self._loads = asyncio.Semaphore(1)
        self._idle: queue.SimpleQueue[SqliteConnection] = queue.SimpleQueue()
        self._is_open = False

    # --- On the event loop ------------------------------------------------------------------

    async def read(self, steps: Steps[T]) -> T:
        """Run a procedure of one statement."""
        async with self._place():
            return await self._in_thread(lambda: self._read(steps))

    async def snapshot(self, steps: Steps[T]) -> T:
        """Run a procedure whose statements all see the same state of the database."""
        async with self._place():
            return await self._in_thread(lambda: self._snapshot(steps))

    async def load(self, steps: Steps[T]) -> T:
        """Like ``snapshot``, but without a deadline, on a connection that is opened for it.

        One at a time. If the caller is cancelled, it ends at its next statement.
        """
        async with self._loads:
            self._refuse_if_closed()
            over = threading.Event()
            try:
                return await asyncio.to_thread(self._load, steps, over)
            finally:
                over.set()

    @contextlib.asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(None if self._seconds is None else ACQUIRE_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise TooLong(
                f"too many long reads: no connection became free within {ACQUIRE_SECONDS:g} s"
            ) from None
        try:
            yield
        finally:
            self._places.release()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        self._refuse_if_closed()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _refuse_if_closed(self) -> None:
        if not self._is_open:
            raise StoreAway(f"the store is closed: {self._path}")

    async def close(self) -> None:
        """Complete running reads, then close; a load ends at its next statement."""
        self._is_open = False
        async with self._loads:
            pass
        await asyncio.to_thread(self._threads.shutdown)

    # --- In a thread ------------------------------------------------------------------------

    def connect(self) -> None:
        for _ in range(self._count):
            connection = SqliteConnection(self._path, mode="ro")
            if self._seconds is not None:
                connection.raw.set_progress_handler(connection.is_late, STEPS_BETWEEN_LOOKS)
            self._idle.put(connection)
        self._is_open = True

    def disconnect(self) -> None:
        self._is_open = False
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().raw.close()

    def _read(self, steps: Steps[T]) -> T:
        with translating(self._path), self._reader() as reader:
            return reader.run(steps)

    def _snapshot(self, steps: Steps[T]) -> T:
        with translating(self._path), self._reader() as reader:
            reader.raw.execute("BEGIN")
            try:
                return reader.run(steps)
            finally:
                reader.raw.execute("ROLLBACK")

    def _load(self, steps: Steps[T], over: threading.Event) -> T:
        with translating(self._path), contextlib.closing(self._snapshot_opened()) as reader:
            step = advanced(steps, None)
            while isinstance(step, Call):
                if over.is_set() or not self._is_open:
                    raise StoreAway(f"the store is closed: {self._path}")
                step = advanced(steps, reader.execute(step))
            return step[0]

    def _snapshot_opened(self) -> SqliteConnection:
        reader = SqliteConnection(self._path, mode="ro")
        reader.raw.execute("BEGIN")
        return reader

    @contextlib.contextmanager
    def _reader(self) -> Iterator[SqliteConnection]:
        """Return a free reader; there are as many as threads, so one is always free."""
        reader = self._idle.get_nowait()
        reader.until = None if self._seconds is None else time.monotonic() + self._seconds
        try:
            yield reader
        finally:
            reader.until = None
            self._idle.put(reader)
