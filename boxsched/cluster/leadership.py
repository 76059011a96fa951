"""Which shards this node leads, and the engines that do.

``SoleLeadership`` is SQLite's: one node, which leads by the lock on its data folder.
``ElectedLeadership`` goes by the lock session (``lock_session``), in three steps for each shard:
its lock is seen to be ours; its engine raises the epoch, loads and serves; and it ends before the
lock can move: when the last good ping is TRUST_SECONDS old, when the session is lost, when the
shard is handed over, or when the node stops.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Protocol

import attrs

from boxsched.cluster.lock_session import (
    PING_SECONDS,
    TRUST_SECONDS,
    LockSession,
    Seen,
    clock,
)
from boxsched.cluster.shares import View, to_hand_over
from boxsched.engine.engine import Engine
from boxsched.errors import BoxschedError, StoreAway
from boxsched.protocol.lock_keys import LockKeys, node_number
from boxsched.store.postgres.servers import Servers
from boxsched.store.store import Store

log = logging.getLogger(__name__)

CLAIMED_SECONDS = 15.0
LEAVE_ALONE_SECONDS = 5.0  # a shard that was handed over
SHARDS_SECONDS = 5.0  # between two looks for new shards
THREAD_ENDS_SECONDS = 3.0

EngineOf = Callable[[int, Callable[[], bool]], Engine]  # shard, whether it may lead now


class LeadershipFailed(BoxschedError):
    """This node can never lead as it was started: read the message."""

    code = "leadership_failed"


class Leadership(Protocol):
    @property
    def engines(self) -> Mapping[int, Engine]:
        """Those of the shards that this node leads, or is about to."""

    @property
    def led(self) -> frozenset[int]:
        """The shards that this node leads, loaded and serving."""

    @property
    def view(self) -> View | None:
        """Who is alive and who leads, as last seen; None while nobody knows."""

    async def claim(self) -> None:
        """Make sure that no other is this node, before anything is written in its name."""

    async def start(self) -> None:
        """Lead whatever is free, or will be."""

    async def run(self) -> None: ...

    async def close(self) -> None:
        """Turns under way end; then every shard is free for others."""


class SoleLeadership:
    """The only node there is leads the only shard there is."""

    def __init__(self, engine_of: EngineOf, shard: int, node: str) -> None:
        self._shard = shard
        self._node = node_number(node)
        self._over = False
        self._ended = asyncio.Event()
        self._ended.set()
        self._engine = engine_of(shard, lambda: not self._over)

    @property
    def engines(self) -> Mapping[int, Engine]:
        return {self._shard: self._engine}

    @property
    def led(self) -> frozenset[int]:
        return frozenset({self._shard} if self._engine.leads else ())

    @property
    def view(self) -> View | None:
        return View(self._node, frozenset({self._node}), dict.fromkeys(self.led, self._node))

    async def claim(self) -> None:
        """The data folder's lock says so."""

    async def start(self) -> None:
        """Lead before anybody asks."""
        await self._engine.load()
        await self._engine.turn()

    async def run(self) -> None:
        self._ended.clear()
        try:
            await self._engine.run()
        finally:
            self._ended.set()

    async def close(self) -> None:
        self._over = True
        self._engine.wake()
        await self._ended.wait()


@attrs.define(eq=False)
class Tenure:
    """One leadership of a shard, from its lock's coming to its going."""

    engine: Engine
    task: asyncio.Task[None]
    over: bool = False  # it ends with the turn under way


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
        servers: Servers | None = None,
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
        self._view: View | None = None
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

    def _post(self, told: Callable[..., None], what: object) -> None:
        """From the thread to the loop, which may be closed by now."""
        try:
            self._loop.call_soon_threadsafe(told, what)
        except RuntimeError:
            self._session.end()

    @property
    def engines(self) -> Mapping[int, Engine]:
        return {shard: tenure.engine for shard, tenure in self._tenures.items()}

    @property
    def led(self) -> frozenset[int]:
        return frozenset(s for s, t in self._tenures.items() if t.engine.leads and not t.over)

    @property
    def view(self) -> View | None:
        return self._view

    @property
    def trusted(self) -> bool:
        """Whether no other node can have our locks yet."""
        return clock() < self._trusted_until

    async def claim(self) -> None:
        """Raises LeadershipFailed; waits for the locks of an earlier life to go, and for the
        database to be back, for CLAIMED_SECONDS at most (StoreAway)."""
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

    async def run(self) -> None:
        while True:
            self._refuse_to_go_on()
            self._end_tenures()
            if clock() - self._looked_at > SHARDS_SECONDS:
                try:
                    await self._look_for_shards()
                except StoreAway:
                    self._looked_at = clock()
            try:
                async with asyncio.timeout(PING_SECONDS):
                    await self._changed.wait()
                self._changed.clear()
            except TimeoutError:
                pass

    def _refuse_to_go_on(self) -> None:
        if self._failure is not None:
            raise LeadershipFailed(str(self._failure))

    async def close(self) -> None:
        """All shards at once: nobody waits for anybody."""
        self._closing = True
        self._session.want(())
        for shard in list(self._tenures):
            self._end(shard)
        try:
            if self._tenures:
                await asyncio.wait({tenure.task for tenure in self._tenures.values()})
        finally:  # also where whoever waits has no more time
            if self._ticking is not None:
                self._ticking.cancel()
            self._session.end()
        await asyncio.to_thread(self._session.join, THREAD_ENDS_SECONDS)

    async def _tick_on(self) -> None:
        """The beat of the loop, without which the thread ends the session: for life."""
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

    # --- What the thread tells --------------------------------------------------------------

    def _seen(self, seen: Seen) -> None:
        if self._view is None:
            self._changed.set()
        self._view = seen.view
        self._trusted_until = max(self._trusted_until, seen.at + TRUST_SECONDS)
        if not self.trusted:
            return  # the loop comes to it too late: the next ping tells
        # What is let go of may still be ours in the answer to a ping that was begun before.
        self._let_go = {s: at for s, at in self._let_go.items() if seen.at <= at}
        mine = seen.view.mine - self._let_go.keys()
        for shard in mine - self._tenures.keys():
            if self._closing or shard not in self._shards:
                self._release(shard)
            else:
                self._begin(shard)
        for shard in self._tenures.keys() - mine:
            self._end(shard)  # its lock went another way than by our hand
        self._say_waiting(seen.view)
        given = to_hand_over(seen.view, self._shards)
        if given is not None and not any(t.over for t in self._tenures.values()):
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

    def _say_waiting(self, view: View) -> None:
        """Once for each time that another leads a shard."""
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
        """Those that ended let go of their locks; raises what a mistake of ours ended one with."""
        for shard, tenure in list(self._tenures.items()):
            if not tenure.task.done():
                continue
            tenure.task.result()
            del self._tenures[shard]
            self._release(shard)
            log.info("gave up leader lease of shard %d", shard)
