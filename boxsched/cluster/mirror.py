"""A read-only copy of a shard that another node leads, used to explain and to count."""

import asyncio
import time
from collections.abc import Callable

import attrs

from boxsched.engine.books import Books
from boxsched.engine.loading import Loading
from boxsched.store.store import Store

REST_TIMES = 1.0


@attrs.frozen
class ShardCopy:
    books: Books = attrs.field(repr=False)
    epoch: int
    batch: int


class Mirror:
    """Loads the shard on request; one load serves all callers that wait for it.

    A load is skipped while the shard's epoch and batch stay the same. Between two loads it pauses
    for as long as the last one took. A caller never gets books from before its call.
    """

    def __init__(
        self,
        store: Store,
        shard: int,
        alive: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._shard = shard
        self._alive = alive  # whether a node is alive, according to the locks
        self._clock = clock
        self._next: asyncio.Task[ShardCopy] | None = None  # the next load: requested, not begun
        self._last: asyncio.Task[ShardCopy] | None = None
        self._rest_until = 0.0

    async def books(self) -> Books:
        """Return the shard's books. Raises StoreAway."""
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._last), name="mirror")
        # Shielded, so that one cancelled caller does not cancel the load for the others.
        return (await asyncio.shield(self._next)).books

    async def _after(self, last: asyncio.Task[ShardCopy] | None) -> ShardCopy:
        known: ShardCopy | None = None
        if last is not None:
            await asyncio.wait({last})
            if last.exception() is None:
                known = last.result()
        await asyncio.sleep(max(0.0, self._rest_until - self._clock()))
        self._last, self._next = self._next, None  # later requests get another load
        heads = {head.id: head for head in await self._store.shards()}
        head = heads[self._shard]
        if known is not None and (known.epoch, known.batch) == (head.epoch, head.batch):
            # A worker's row can be deleted without a batch of the shard.
            known.books.know(await self._store.pulses(self._shard))
            return known
        began = self._clock()
        loading = Loading()
        try:
            await self._store.mirror(self._shard, loading)
        finally:
            now = self._clock()
            self._rest_until = now + REST_TIMES * (now - began)
        state = loading.state
        assert state is not None
        return ShardCopy(loading.finish(self._alive), state.epoch, state.batch)
