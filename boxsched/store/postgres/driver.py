"""The PostgreSQL driver: a few connections; a cancelled caller never leaves a transaction half
done.

Each transaction runs in a separate task, which continues if its caller is cancelled. After a
conflict with another transaction it is repeated a few times.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from boxsched.backoff import Backoff
from boxsched.errors import OutcomeUnknown, StoreAway, TooLong, disk_full
from boxsched.store.blocks import Steps
from boxsched.store.errors import FULL, FolderUnusable
from boxsched.store.file_lock import FileLock
from boxsched.store.postgres.connection import (
    ANSWER_SECONDS,
    SNAPSHOT,
    WRITE,
    PostgresConnection,
    named,
)
from boxsched.store.postgres.errors import LostRace, RowHeld
from boxsched.store.postgres.pool import ConnectionPool
from boxsched.store.postgres.schema import refuse_if_unfit, refuse_transaction_pooling, upgrade
from boxsched.store.postgres.servers import PostgresServers

P = ParamSpec("P")
T = TypeVar("T")

DECIDING, SERVING, READING = 2, 5, 3  # connections of each use
CALL_SECONDS = 1.8  # from the start of a call to its first answer, including connecting
TRIES = 5
FIRST_PAUSE_SECONDS = 0.005  # upper limit of the first pause; doubled with each try


class PostgresDriver:
    """``driver.StoreDriver`` for PostgreSQL. ``folder_lock`` keeps other processes out of the data
    folder.
    """

    def __init__(self, url: str, folder_lock: Path) -> None:
        self.url = url
        self._lock = FileLock(folder_lock)
        self.is_near = False
        self.round_trips: Counter[str] = Counter()
        self.servers = PostgresServers(url, folder_lock.parent)
        self.deciding = PostgresProcedures(self.servers, DECIDING, self.round_trips)
        self.serving = PostgresProcedures(self.servers, SERVING, self.round_trips)
        self.reading = PostgresProcedures(self.servers, READING, self.round_trips)
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        try:
            await asyncio.to_thread(self._lock.take)
        except OSError as error:
            if error.errno in FULL:
                raise disk_full(f"the disk of the data folder is full: {error}") from error
            raise FolderUnusable(f"the data folder cannot be used: {error}") from error
        self.servers.load()
        pool = self.serving.opened()
        try:
            async with pool.connection("open") as one:
                await refuse_if_unfit(one)
                async with pool.connection("open") as other:
                    await refuse_transaction_pooling(one, other)
                await upgrade(one)
            pool.drop()
            # from now on, the server's mark is read again, because the tables exist now
            self.servers.lose()
            async with pool.connection("open"):
                pass
        except BaseException:
            await self.serving.close()
            self._lock.release()
            raise
        self.deciding.opened()
        self.reading.opened()
        self._looking = asyncio.create_task(self.servers.look_on(), name="look at all hosts")

    async def close(self) -> None:
        """Wait for running procedures; none can begin after this."""
        if self.serving.is_open:
            if self._looking is not None:
                self._looking.cancel()
                await asyncio.gather(self._looking, return_exceptions=True)
            await asyncio.gather(self.deciding.close(), self.serving.close(), self.reading.close())
            self._lock.release()


class PostgresProcedures:
    """``driver.Procedures`` with a separate pool."""

    def __init__(self, servers: PostgresServers, size: int, round_trips: Counter[str]) -> None:
        self._servers = servers
        self._size = size
        self._round_trips = round_trips
        self._pool: ConnectionPool | None = None
        self._under_way: set[asyncio.Task[Any]] = set()

    @property
    def is_open(self) -> bool:
        return self._pool is not None

    def opened(self) -> ConnectionPool:
        """Allow procedures from now on. Connections are made on demand."""
        self._pool = ConnectionPool(
            self._servers.connect,
            self._is_used,
            lambda: self._servers.pulse.patience,
            self._size,
            self._round_trips,
        )
        return self._pool

    async def close(self) -> None:
        """Wait for running procedures."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.gather(*self._under_way, return_exceptions=True)
            pool.close()

    async def write(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        async def written(connection: PostgresConnection) -> T:
            try:
                found = await connection.transact(WRITE, steps(*args, **kwargs), ANSWER_SECONDS)
            except TooLong as error:
                if self._servers.pulse.patience:  # it waited for row locks several times
                    raise RowHeld(error.message) from error
                raise
            if not self._is_used(connection):
                raise OutcomeUnknown("the database has moved to another server")
            return found

        return await self._whole(steps.__name__, written)

    async def load(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        task = self._begun(self._loaded(steps.__name__, steps(*args, **kwargs)))
        return await task

    async def _loaded(self, name: str, steps: Steps[T]) -> T:
        async with self._open_pool().connection(name, _call_ends()) as connection:
            return await connection.load(steps)

    async def read(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._whole(
            steps.__name__, lambda connection: connection.read(steps(*args, **kwargs))
        )

    async def snapshot(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._whole(
            steps.__name__,
            lambda connection: connection.transact(
                SNAPSHOT, steps(*args, **kwargs), ANSWER_SECONDS
            ),
        )

    def _is_used(self, connection: PostgresConnection) -> bool:
        return self._servers.is_used(connection.server)

    def _open_pool(self) -> ConnectionPool:
        if self._pool is None:
            raise StoreAway(f"the store is closed: {named(self._servers.url)}")
        return self._pool

    async def _whole(
        self, name: str, work: Callable[[PostgresConnection], Coroutine[Any, Any, T]]
    ) -> T:
        """Run in a task that continues when its caller is cancelled."""
        return await asyncio.shield(self._begun(self._tried(name, work)))

    async def _tried(
        self, name: str, work: Callable[[PostgresConnection], Coroutine[Any, Any, T]]
    ) -> T:
        """Run a transaction; repeat it if it lost a race or waited for a slow commit."""
        pool, backoff = self._open_pool(), Backoff(FIRST_PAUSE_SECONDS)
        for _ in range(TRIES - 1):
            try:
                async with pool.connection(name, _call_ends()) as connection:
                    return await work(connection)
            except RowHeld:
                if not self._servers.pulse.patience:
                    raise
            except LostRace:
                await asyncio.sleep(random.uniform(0, backoff.next()))  # noqa: S311 (not a secret)
        async with pool.connection(name, _call_ends()) as connection:
            return await work(connection)

    def _begun(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Return a task that ``close`` waits for."""
        task = asyncio.create_task(work)
        self._under_way.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        """Mark the error as read: the caller gets it, or was cancelled."""
        self._under_way.discard(task)
        if not task.cancelled():
            task.exception()


def _call_ends() -> float:
    return asyncio.get_running_loop().time() + CALL_SECONDS
