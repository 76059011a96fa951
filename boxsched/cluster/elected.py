"""Lead shards together with other nodes; the locks of the lock session decide which.

A shard is led in three steps. The lock session (``lock_session``) reports that we hold its lock.
The engine raises the shard's epoch, loads the shard and serves it. The engine ends before the lock
can move to another node: when the last good ping is TRUST_SECONDS old, when the session is lost,
when the shard is handed over, or when the node stops.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping

import attrs

from boxsched.cluster.leadership import EngineOf, LeadershipFailed
from boxsched.cluster.lock_session import (
    PING_SECONDS,
    TRUST_SECONDS,
    LockSession,
    PingResult,
    clock,
)
from boxsched.cluster.shares import LockView, to_hand_over
from boxsched.engine.engine import Engine
from boxsched.errors import StoreAway
from boxsched.protocol.lock_keys import LockKeys, node_number
from boxsched.store.postgres.servers import PostgresServers
from boxsched.store.store import Store

log = logging.getLogger(__name__)

CLAIMED_SECONDS = 15.0
LEAVE_ALONE_SECONDS = 5.0  # after handing a shard over, do not take it again
SHARDS_SECONDS = 5.0  # between two checks for new shards
THREAD_ENDS_SECONDS = 3.0


@attrs.define(eq=False)
class Tenure:
    """The time in which this node leads one shard, from taking the lock to releasing it."""

    engine: Engine
    task: asyncio.Task[None]
    over: bool = False  # True: the engine ends after its current turn


class ElectedLeadership:
    def __init__(
        self,
        url: str,
        store: Store,
        *,
        keys: LockKeys,
        node: str,
        retry_interval: float,
        engine_of: EngineOf,
        servers: PostgresServers | None = None,
    ) -> None:
        self._store = store
        self._engine_of = engine_of
        self._loop = asyncio.get_running_loop()
        self._tenures: dict[int, Tenure] = {}
        self._shards: frozenset[int] = frozenset()
        self._left_alone: dict[int, float] = {}  # shard -> until when
        self._let_go: dict[int, float] = {}  # shard -> when
        self._trusted_until = 0.0
        self._ticking: asyncio.Task[None] | None = None
        self._view: LockView | None = None
        self._waiting_said: set[int] = set()
        self._looked_at = 0.0
        self._changed = asyncio.Event()
        self._closing = False
        self._failure: Exception | None = None
        self._session = LockSession(
            servers or url,
            keys,
            node_number(node),
            retry_interval=retry_interval,
            seen=lambda seen: self._post(self._seen, seen),
            lost=lambda why: self._post(self._lost, why),
            failed=lambda error: self._post(self._failed, error),
        )

    def _post(self, callback: Callable[..., None], what: object) -> None:
        """Call ``callback`` in the event loop, from the thread. The loop may already be closed."""
        try:
            self._loop.call_soon_threadsafe(callback, what)
        except RuntimeError:
            self._session.end()

    @property
    def engines(self) -> Mapping[int, Engine]:
        return {shard: tenure.engine for shard, tenure in self._tenures.items()}

    @property
    def led(self) -> frozenset[int]:
        return frozenset(s for s, t in self._tenures.items() if t.engine.leads and not t.over)

    @property
    def view(self) -> LockView | None:
        return self._view

    @property
    def trusted(self) -> bool:
        """Whether our locks cannot yet belong to another node."""
        return clock() < self._trusted_until

    async def claim(self) -> None:
        """Take the lock of this node's name before anything is written under this name.

        Waits at most CLAIMED_SECONDS for the database, and for an earlier process to free its
        locks; then raises StoreAway. Raises LeadershipFailed if another node has this name, or if
        the lock key or the cluster is wrong.
        """
        self._session.start()
        self._ticking = asyncio.create_task(self._tick_on(), name="ticks of the loop")
        try:
            async with asyncio.timeout(CLAIMED_SECONDS):
                while self._view is None and self._failure is None:
                    await self._changed.wait()
                    self._changed.clear()
        except TimeoutError:
            raise StoreAway(f"no lock session within {CLAIMED_SECONDS:g} s") from None
        self._refuse_to_go_on()

    async def start(self) -> None:
        await self._look_for_shards()

    def look(self) -> None:
        self._looked_at = float("-inf")
        self._changed.set()

    async def run(self) -> None:
        while True:
            await self.run_once()
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._changed.wait()
                self._changed.clear()
            except TimeoutError:
                pass

    async def run_once(self) -> None:
        """Unlock the shards whose engines have ended, and look for new shards every SHARDS_SECONDS.

        Raises LeadershipFailed if this node cannot lead, and the error of an engine that failed
        unexpectedly.
        """
        self._refuse_to_go_on()
        self._end_tenures()
        if clock() - self._looked_at > SHARDS_SECONDS:
            try:
                await self._look_for_shards()
            except StoreAway:
                self._looked_at = clock()

    def _refuse_to_go_on(self) -> None:
        if self._failure is not None:
            raise LeadershipFailed(str(self._failure))

    async def close(self) -> None:
        """End the current turns of all shards; then close the session, which unlocks all."""
        self._closing = True
        self._session.want(())
        for shard in list(self._tenures):
            self._end(shard)
        try:
            if self._tenures:
                await asyncio.wait({tenure.task for tenure in self._tenures.values()})
        finally:  # also if the caller stops waiting
            if self._ticking is not None:
                self._ticking.cancel()
            self._session.end()
        await asyncio.to_thread(self._session.join, THREAD_ENDS_SECONDS)

    async def _tick_on(self) -> None:
        """Tell the thread that the loop runs. Otherwise the thread ends the session."""
        while True:
            self._session.tick()
            await asyncio.sleep(PING_SECONDS)

    async def _look_for_shards(self) -> None:
        self._shards = frozenset(head.id for head in await self._store.shards())
        self._looked_at = clock()
        self._want()

    def _want(self) -> None:
        now = clock()
        self._left_alone = {s: until for s, until in self._left_alone.items() if until > now}
        if not self._closing:
            wanted = self._shards - self._left_alone.keys()
            self._session.want(sorted(wanted - self._tenures.keys()))

    # --- Called by the thread, through the loop ----------------------------------------------

    def _seen(self, seen: PingResult) -> None:
        if self._view is None:
            self._changed.set()
        self._view = seen.view
        self._trusted_until = max(self._trusted_until, seen.at + TRUST_SECONDS)
        if not self.trusted:
            return  # the loop was late: wait for the next ping
        # A ping that began before a release may still show the released lock as ours.
        self._let_go = {s: at for s, at in self._let_go.items() if seen.at <= at}
        mine = seen.view.mine - self._let_go.keys()
        for shard in mine - self._tenures.keys():
            if self._closing or shard not in self._shards:
                self._release(shard)
            else:
                self._begin(shard)
        for shard in self._tenures.keys() - mine:
            self._end(shard)  # we did not release the lock, and it is gone
        self._say_waiting(seen.view)
        given = to_hand_over(seen.view, self._shards)
        # Hand over nothing else until the view shows that the last one has moved.
        moving = self._let_go or any(tenure.over for tenure in self._tenures.values())
        if given is not None and not moving:
            log.info("handing over shard %d: another node leads fewer", given)
            self._left_alone[given] = clock() + LEAVE_ALONE_SECONDS
            self._end(given)
        self._want()

    def _lost(self, why: str) -> None:
        log.warning("the lock session is lost: %s", why)
        self._trusted_until = 0.0
        self._view = None
        for shard in list(self._tenures):
            self._end(shard)
        self._changed.set()

    def _failed(self, error: Exception) -> None:
        self._failure = error
        self._changed.set()

    def _say_waiting(self, view: LockView) -> None:
        """Log once for each shard that another node starts to lead."""
        others = self._shards & view.leaders.keys() - view.mine
        for shard in sorted(others - self._waiting_said):
            log.info("waiting for leader lease of shard %d", shard)
        self._waiting_said = set(others)

    # --- Tenures ----------------------------------------------------------------------------

    def _begin(self, shard: int) -> None:
        log.info("acquired leader lease of shard %d", shard)
        tenure: Tenure
        engine = self._engine_of(shard, lambda: self.trusted and not tenure.over)
        task = asyncio.create_task(engine.run(), name=f"engine of shard {shard}")
        tenure = self._tenures[shard] = Tenure(engine, task)
        task.add_done_callback(lambda _: self._changed.set())

    def _end(self, shard: int) -> None:
        tenure = self._tenures[shard]
        if not tenure.over:
            tenure.over = True
            tenure.engine.wake()

    def _release(self, shard: int) -> None:
        self._let_go[shard] = clock()
        self._session.release(shard)

    def _end_tenures(self) -> None:
        """Release the locks of engines that have ended. Raises the error of a failed engine."""
        for shard, tenure in list(self._tenures.items()):
            if not tenure.task.done():
                continue
            tenure.task.result()
            del self._tenures[shard]
            self._release(shard)
            log.info("gave up leader lease of shard %d", shard)
