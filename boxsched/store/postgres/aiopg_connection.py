"""A connection of aiopg. No other module uses aiopg.

This module avoids these problems of aiopg: it raises ``asyncio.CancelledError`` for a statement
that the server canceled, which silently ends a loop with ``except Exception``; it waits with
``wait_for``, which in Python 3.11 loses cancellations; it ignores ``connect_timeout`` and blocks
the event loop while it resolves names; it uses only the first of several addresses.
"""

import asyncio
import contextlib
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import aiopg
import psycopg2
from psycopg2.extensions import POLL_OK, POLL_WRITE

WELL_SECONDS = 0.25  # between two checks whether the server answers other sessions

Cursor = aiopg.Cursor


class AiopgSession(aiopg.Connection):
    """aiopg's connection with two changes: a statement that the server canceled raises an ordinary
    error, and a descriptor that libpq has closed is removed from the event loop at once.

    aiopg removes it only if the number is not in use again. But another thread may have opened a
    socket with this number in between, and then the loop would watch that socket.
    """

    @staticmethod
    def _ready(weak_self: "weakref.ref[Any]") -> None:
        self = weak_self()
        if self is None:
            return
        waiter = self._waiter
        try:
            state = self._conn.poll()
        except (psycopg2.Warning, psycopg2.Error) as error:
            self._forget_descriptor()
            if waiter is not None and not waiter.done():
                waiter.set_exception(error)
            return
        if state == POLL_WRITE and not self._writing:
            self._loop.add_writer(self._fileno, self._ready, weak_self)
            self._writing = True
        elif state != POLL_WRITE and self._writing:
            self._loop.remove_writer(self._fileno)
            self._writing = False
        if state == POLL_OK and waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _forget_descriptor(self) -> None:
        descriptor, self._fileno = self._fileno, None
        if descriptor is not None:
            with contextlib.suppress(OSError):  # it is closed
                self._loop.remove_reader(descriptor)
                if self._writing:
                    self._loop.remove_writer(descriptor)
        self._writing = False

    # called after the timeout: whether to continue waiting
    goes_on: Callable[[], bool] | None = None

    async def _poll(self, waiter: "asyncio.Future[None]", timeout: float) -> None:
        self._ready(self._weakref)
        goes_on = self.goes_on
        try:
            if goes_on is not None:
                while not (await asyncio.wait({waiter}, timeout=timeout))[0] and goes_on():
                    # in case the loop has not noticed that the session ended
                    self._ready(self._weakref)
                    timeout = WELL_SECONDS
                if not waiter.done():
                    waiter.cancel()
                    raise TimeoutError
            async with asyncio.timeout(timeout):
                await waiter
        except (asyncio.CancelledError, TimeoutError):
            self.close()
            raise
        finally:
            self._waiter = None


async def session(place: Mapping[str, Any], timeout: float) -> AiopgSession:
    """Return a new session at this address."""
    made = AiopgSession(
        None, timeout, enable_json=False, enable_hstore=False, enable_uuid=False, **place
    )
    try:
        await made
    except BaseException:
        made.close()
        raise
    return made
