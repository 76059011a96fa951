"""Reads of a restarted server wait until its synchronous standby has all that they show.

PostgreSQL shows a commit to other sessions when the standby has it. A server that was restarted
shows all that its log holds, and a crash right after that may lose what the standby has not got.
Behind each restart, therefore, one commit of ours is waited for: the standby then has all before
it. Without a synchronous standby that takes a millisecond.
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
    """``run`` names an uninterrupted run of a server."""

    def __init__(self) -> None:
        self._settled: Hashable | None = None  # the run that was waited for last
        self._run: Hashable | None = None  # the one that is waited for
        self._task: asyncio.Task[None] | None = None

    async def settled(self, place: Mapping[str, Any], run: Hashable, timeout: float) -> None:
        """Raises StoreAway within that time. The commit goes on behind it, and the next caller
        finds how far it is: a standby may lag by more than one caller can wait."""
        if run == self._settled:
            return
        if self._task is None or self._task.done() or self._run != run:
            self.cancel()
            self._run = run
            self._task = asyncio.create_task(_commit(place), name="wait for the standby")
        done, _ = await asyncio.wait({self._task}, timeout=timeout)
        if not done:
            raise StoreAway(
                "the server was restarted, and its synchronous standby does not have yet what it "
                "shows"
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
