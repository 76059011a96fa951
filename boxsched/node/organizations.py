"""The organizations as this node read them last, and what it keeps of each of them."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

import attrs

from boxsched.clock import Clock
from boxsched.cluster.mirror import Mirror
from boxsched.engine.books import Books
from boxsched.errors import StoreAway
from boxsched.model import OrganizationId
from boxsched.node.forecasts import Forecasts
from boxsched.protocol.shards import Organization
from boxsched.store.store import Store

LEAST_SECONDS = 0.05  # between two looks for unknown names
LOOK_SECONDS = 1.0
FRESH_SECONDS = 0.5  # a list that is older is read again before an answer depends on it
KEPT = 32  # copies of organizations that other nodes lead


class KnownOrganizations:
    """``monotonic``: seconds of the node's clock."""

    def __init__(self, store: Store, monotonic: Callable[[], float]) -> None:
        self._store = store
        self._monotonic = monotonic
        self._known: dict[OrganizationId, Organization] = {}
        self._names: dict[str, Organization] = {}
        self._read_at = float("-inf")
        self._reading: asyncio.Task[None] | None = None

    async def all(self) -> Sequence[Organization]:
        """Return all organizations, by name; what was done before the call is in the answer only
        after ``forget``, or FRESH_SECONDS later. Raises StoreAway.
        """
        await self._refresh()
        return list(self._known.values())

    @property
    def several(self) -> bool:
        """Whether there are others besides the default one, as far as this node knows."""
        return len(self._known) != 1

    async def find(self, id: OrganizationId) -> Organization | None:
        """Return the organization of an id, which another node may have just created."""
        await self._refresh()
        return self._known.get(id) or await self._again(lambda: self._known.get(id))

    async def named(self, name: str) -> Organization | None:
        """Return the organization of a name. One that another node has just created is found."""
        await self._refresh()
        return self._names.get(name) or await self._again(lambda: self._names.get(name))

    async def run(self) -> None:
        """Read the list again and again, so that ``several`` is recent."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._refresh()

    def forget(self) -> None:
        """Read the list again before the next answer: it was changed through this node. What is
        being read now may be from before.
        """
        self._read_at, self._reading = float("-inf"), None

    async def _again(self, look: Callable[[], Organization | None]) -> Organization | None:
        """Read the list again, because it does not have what is looked for."""
        if self._monotonic() - self._read_at < LEAST_SECONDS:
            return None
        self._read_at = float("-inf")  # and those who look at the same time share one reading
        await self._refresh()
        return look()

    async def _refresh(self) -> None:
        """Read the list if it is not fresh. While the store is away, an older one is used."""
        if self._monotonic() - self._read_at < FRESH_SECONDS:
            return
        reading = None
        while reading is None or reading is not self._reading:  # else it was changed meanwhile
            if self._reading is None or self._reading.done():
                self._reading = asyncio.create_task(self._read(), name="organizations")
            reading = self._reading
            try:
                await asyncio.shield(reading)
            except StoreAway:
                if not self._known:
                    raise
                return

    async def _read(self) -> None:
        at = self._monotonic()
        found = await self._store.organizations()
        if asyncio.current_task() is not self._reading:
            return  # the list was changed meanwhile
        self._known = {one.id: one for one in found}
        self._names = {one.name: one for one in found}
        self._read_at = at


@attrs.frozen
class Home:
    """What this node keeps of one organization."""

    mirror: Mirror
    forecasts: Forecasts


class Homes:
    """Copies and forecasts of the organizations that were asked for last, KEPT at most.

    ``books``: returns the present books of a shard. ``alive``: whether the node of that name is.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        alive: Callable[[str], bool],
        books: Callable[[int], Awaitable[Books]],
    ) -> None:
        self._store = store
        self._clock = clock
        self._alive = alive
        self._books = books
        self._kept: OrderedDict[int, Home] = OrderedDict()

    def of(self, shard: int) -> Home:
        home = self._kept.get(shard)
        if home is None:
            mirror = Mirror(self._store, shard, self._alive)
            home = Home(mirror, Forecasts(lambda: self._books(shard), self._clock))
            self._kept[shard] = home
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(shard)
        return home
