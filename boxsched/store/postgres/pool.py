"""A pool of connections; a connection that had an error is closed, not kept."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from boxsched.errors import StoreAway
from boxsched.store.postgres.connection import CONNECT_SECONDS, PostgresConnection, within

ACQUIRE_SECONDS = 1.0


class ConnectionPool:
    """At most ``size`` connections at a time; of the idle ones, the last used is taken first."""

    def __init__(
        self,
        connect: Callable[[float], Awaitable[PostgresConnection]],
        is_used: Callable[[PostgresConnection], bool],
        patience: Callable[[], float],
        size: int,
        trips: Counter[str],
    ) -> None:
        self._trips = trips
        self._connect = connect
        self._patience = patience  # returns the seconds that earlier commits may take
        self._is_used = is_used  # whether a connection is on the current server
        self._idle: list[PostgresConnection] = []
        self._places = asyncio.Semaphore(size)
        self._is_open = True

    @contextlib.asynccontextmanager
    async def connection(
        self, work: str, until: float | None = None
    ) -> AsyncIterator[PostgresConnection]:
        """Provide a connection. Raises StoreAway if none is available in time.

        ``work``: the label of its round trips. ``until``: when the first answer must have arrived,
        by the loop's clock; it is extended while commits of others are slow.
        """
        await self._take_place(until)
        try:
            if until is not None:
                until += self._patience()
            connection = self._waiting() or await self._connect(within(CONNECT_SECONDS, until))
            connection.until = until
            before = connection.round_trips
            try:
                yield connection
            except BaseException:
                connection.close()
                if connection.broken:
                    self.drop()  # the cause has probably broken all connections
                raise
            finally:
                self._trips[work] += connection.round_trips - before
            self._keep(connection)
        finally:
            self._places.release()

    async def _take_place(self, until: float | None) -> None:
        """Wait for a free place. How slow other commits are may become known only while waiting."""
        began = asyncio.get_running_loop().time()
        while True:
            seconds = within(ACQUIRE_SECONDS, until) + self._patience()
            left = began + seconds - asyncio.get_running_loop().time()
            try:
                async with asyncio.timeout(max(left, 0)):
                    await self._places.acquire()
                    return
            except TimeoutError as error:
                if left <= 0 or not self._patience():
                    raise StoreAway(f"no connection became free within {seconds:.3g} s") from error

    def drop(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop().close()

    def close(self) -> None:
        """Close the idle connections; those in use close when they are returned."""
        self._is_open = False
        self.drop()

    def _waiting(self) -> PostgresConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.closed and self._is_used(connection):
                return connection
            connection.close()
        return None

    def _keep(self, connection: PostgresConnection) -> None:
        if self._is_open and not connection.closed:
            self._idle.append(connection)
        else:
            connection.close()
