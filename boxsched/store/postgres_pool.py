"""Connections kept for the next who needs one; one that met an error is never kept."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from boxsched.errors import StoreAway
from boxsched.store.postgres_connection import Connection

ACQUIRE_SECONDS = 1.0  # connecting included


class Pool:
    """At most ``size`` connections at once; of those that wait, the last used goes first."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], size: int) -> None:
        self._connect = connect
        self._idle: list[Connection] = []
        self._places = asyncio.Semaphore(size)
        self._is_open = True
        self._trips = 0  # of connections that are gone, and of all as they come back

    @property
    def round_trips(self) -> int:
        return self._trips

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Raises StoreAway where none is to be had in time."""
        try:
            async with asyncio.timeout(ACQUIRE_SECONDS):
                await self._places.acquire()
        except TimeoutError as error:
            raise StoreAway(f"no connection came free within {ACQUIRE_SECONDS:g} s") from error
        try:
            connection = self._waiting() or await self._connect()
            before = connection.round_trips
            try:
                yield connection
            except BaseException:
                connection.close()
                if connection.broken:
                    self.drop()  # what broke one has most likely broken all
                raise
            finally:
                self._trips += connection.round_trips - before
            self._keep(connection)
        finally:
            self._places.release()

    def drop(self) -> None:
        """Close those that wait."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Those in use close as they come back."""
        self._is_open = False
        self.drop()

    def _waiting(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed:
                return connection
            connection.close()
        return None

    def _keep(self, connection: Connection) -> None:
        if self._is_open and not connection.closed:
            self._idle.append(connection)
        else:
            connection.close()
