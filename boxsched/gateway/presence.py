"""Which workers are connected, as the store records it: heartbeats and ends of connections."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from aiohttp import WSCloseCode

from boxsched.errors import StoreAway
from boxsched.gateway.figures import Times
from boxsched.model import WorkerId
from boxsched.protocol.ghosts import Haunted, HeldAttempt, Lease
from boxsched.protocol.workers import WorkerConnection
from boxsched.store.store import Store

MAX_UNANSWERED_BEATS = 64

log = logging.getLogger(__name__)


class Beating(Protocol):
    """A connection that sends heartbeats."""

    connection: WorkerConnection
    problem: str | None  # why it cannot begin jobs, from its last heartbeat
    ghosts: tuple[HeldAttempt, ...] | None  # from its last heartbeat; None: not known
    notes: tuple[str, ...]  # what an operator should know, from its last heartbeat
    # The ghosts and notes that the store has from this connection.
    noted: tuple[object, object] | None

    def ack(self, number: int, *, end: tuple[Lease, ...] = ()) -> None: ...

    def drained(self) -> None: ...

    def end(self, code: WSCloseCode, reason: str) -> None: ...


class Beats:
    """Writes the heartbeats since the last write in one statement.

    ``seconds``: between two writes. ``is_here``: whether a connection is still its worker's current
    one here. ``lost_after``: seconds after which a silent worker is lost.
    """

    def __init__(
        self,
        store: Store,
        seconds: float,
        is_here: Callable[[Beating], bool],
        lost_after: float,
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._is_here = is_here
        self._lost_after = lost_after
        self._unwritten: dict[Beating, deque[int]] = {}

    def add(self, link: Beating, number: int) -> None:
        numbers = self._unwritten.setdefault(link, deque(maxlen=MAX_UNANSWERED_BEATS))
        numbers.append(number)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self._seconds)
            with contextlib.suppress(StoreAway):
                await self.write()

    async def write(self) -> None:
        """Write all heartbeats since the last write. Raises StoreAway, and then keeps them."""
        beaten = {link: them for link, them in self._unwritten.items() if self._is_here(link)}
        self._unwritten = {}
        if not beaten:
            return
        try:
            connections = [link.connection for link in beaten]
            problems = {each.connection.worker: each.problem for each in beaten if each.problem}
            alive = await self._store.beat(connections, self._lost_after, problems)
            ends = await self._note_ghosts([one for one in beaten if _worker(one) in alive])
        except StoreAway:
            for link, numbers in beaten.items():
                numbers.extend(self._unwritten.get(link, ()))
            self._unwritten |= beaten
            raise
        for link, numbers in beaten.items():
            if link.connection.worker in alive:
                end = ends.get(_worker(link), ())
                for number in numbers:
                    link.ack(number, end=end)
                if alive[link.connection.worker]:
                    link.drained()
            else:
                link.end(WSCloseCode.TRY_AGAIN_LATER, "not_its_connection")

    async def _note_ghosts(self, links: Sequence[Beating]) -> Mapping[WorkerId, tuple[Lease, ...]]:
        """Store the ghosts of workers that have some, and those and notes that have changed; return
        the ghosts that each must end.
        """
        told = {
            link: Haunted(link.connection, link.ghosts, link.notes)
            for link in links
            if link.ghosts is not None and (link.ghosts or link.noted != (link.ghosts, link.notes))
        }
        if not told:
            return {}
        ends = await self._store.note_ghosts(list(told.values()))
        for link, one in told.items():
            if one.held and (link.noted is None or not link.noted[0]):
                log.warning("worker %s holds %d ghosts", _worker(link), len(one.held))
            link.noted = one.held, one.notes
        return ends


def _worker(link: Beating) -> WorkerId:
    return link.connection.worker


class Ends:
    """Marks ended connections as disconnected in the store, as soon as it is available."""

    def __init__(self, store: Store, times: Times) -> None:
        self._store = store
        self._times = times
        self._unreported: dict[WorkerId, WorkerConnection] = {}
        self._some = asyncio.Event()

    def add(self, connection: WorkerConnection) -> None:
        known = self._unreported.get(connection.worker)
        if known is None or known.number < connection.number:
            self._unreported[connection.worker] = connection
        self._some.set()

    async def run(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            try:
                await self.write()
            except StoreAway:
                await asyncio.sleep(self._times.longest_retry)
                self._some.set()

    async def write(self) -> None:
        """Mark the ended connections as disconnected. Raises StoreAway, and then keeps them."""
        unreported = list(self._unreported.values())
        if not unreported:
            return
        await self._store.disconnect_workers(unreported)
        for connection in unreported:
            if self._unreported.get(connection.worker) is connection:
                del self._unreported[connection.worker]
