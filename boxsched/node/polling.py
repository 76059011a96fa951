"""Wake the engines whose inboxes have commands: by one query for all shards that a node leads.

A node wakes its own engines directly, and others over the bus. This finds commands of other nodes
without a bus, or after a hint was lost.
"""

import asyncio
import contextlib

import attrs

from boxsched.cluster.leadership import Leadership
from boxsched.errors import StoreAway
from boxsched.store.store import Store

POLL_SECONDS = 0.2


@attrs.frozen
class Polling:
    store: Store
    leadership: Leadership

    async def run(self) -> None:
        """Poll until cancelled; continue after outages of the store."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            with contextlib.suppress(StoreAway):
                await self.run_once()

    async def run_once(self) -> None:
        engines = self.leadership.engines
        if not engines:
            return
        for shard in await self.store.shards_with_commands(sorted(engines)):
            engine = engines.get(shard)
            if engine is not None:
                engine.wake()
