"""Delay reads from a restarted server until its synchronous standby has everything they show.

PostgreSQL shows a commit to other sessions when the standby has it. But a restarted server shows
everything in its WAL, and a crash directly after that may lose what the standby does not have yet.
So after each restart we wait for one commit of ours: then the standby has everything before it.
Without a synchronous standby this takes a millisecond.
"""

import asyncio
from collections.abc import Hashable, Mapping
from typing import Any

import psycopg2

from boxsched.errors import StoreAway
from boxsched.store.postgres.connection import CONNECT_SECONDS, WRITE, connect_to
from boxsched.store.postgres.pulse import COMMIT_SECONDS
from boxsched.store.steps import reads


class Settling:
    """Waits once for each ``run``, an uninterrupted run of a server."""

    def __init__(self) -> None:
        self._settled: Hashable | None = None  # the last run for which the wait has ended
        self._run: Hashable | None = None  # the run for which a wait is active
        self._task: asyncio.Task[None] | None = None

    async def settled(self, place: Mapping[str, Any], run: Hashable, timeout: float) -> None:
        """Wait for the run. Raises StoreAway after at most ``timeout`` seconds. Then the commit
        continues in the background for the next caller, because a standby may lag by more than one
        caller can wait.
        """
        if run == self._settled:
            return
        if self._task is None or self._task.done() or self._run != run:
            self.cancel()
            self._run = run
            self._task = asyncio.create_task(_commit(place), name="wait for the standby")
        done, _ = await asyncio.wait({self._task}, timeout=timeout)
        if not done:
            raise StoreAway(
                "the server was restarted, and its synchronous standby does not have all its data "
                "yet"
            )
        await self._task
        self._settled = run

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _commit(place: Mapping[str, Any]) -> None:
    try:
        connection = await connect_to(place, CONNECT_SECONDS)
    except (psycopg2.Error, TimeoutError, OSError) as error:
        raise StoreAway(f"the connection broke: {str(error).strip()}") from error
    try:
        await connection.transact(WRITE, reads.ping(), COMMIT_SECONDS)
    finally:
        connection.close()
