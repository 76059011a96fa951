"""A pool of connections; a connection that had an error is closed, not kept."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable

from boxsched.errors import StoreAway
from boxsched.store.postgres.connection import CONNECT_SECONDS, PostgresConnection, within

ACQUIRE_SECONDS = 1.0


class ConnectionPool:
    """At most ``size`` connections at once; of those that wait, the last used goes first."""

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
        self._patience = patience  # seconds that the commits of those before may take
        self._is_used = is_used  # whether it is on the server that is used
        self._idle: list[PostgresConnection] = []
        self._places = asyncio.Semaphore(size)
        self._is_open = True

    @contextlib.asynccontextmanager
    async def connection(
        self, work: str, until: float | None = None
    ) -> AsyncIterator[PostgresConnection]:
        """Raises StoreAway where none is to be had in time.

        ``work``: what its round trips are counted as. ``until``: when, by the loop's clock, the
        first answer has to be there; later where commits are slow: those of others come first.
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
                    self.drop()  # what broke one has most likely broken all
                raise
            finally:
                self._trips[work] += connection.round_trips - before
            self._keep(connection)
        finally:
            self._places.release()

    async def _take_place(self, until: float | None) -> None:
        """How slow the commits of others are may show only while it waits for them."""
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
                    raise StoreAway(f"no connection came free within {seconds:.3g} s") from error

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
