"""PostgreSQL's advisory locks in memory, on a held clock, and nodes that use them.

The server does what the lock session relies on: a lock belongs to a session and counts how often it
was taken; a session that ends, or is silent for SESSION_SECONDS, loses all of its locks.
"""

import asyncio
from collections.abc import Callable, Collection

import attrs
import psycopg2

from boxsched.cluster.elected import ElectedLeadership
from boxsched.cluster.lock_session import SESSION_SECONDS
from boxsched.cluster.locks import SessionLost
from boxsched.cluster.shares import LockView
from boxsched.protocol.lock_keys import LockKeys, node_number


@attrs.define(eq=False)
class ServerSession:
    node: int
    heard_at: float
    shards: dict[int, int] = attrs.field(factory=dict)  # shard -> how often it was taken
    alive: bool = True
    killed: bool = False  # by an operator or a crash, not by its own silence


class LockServer:
    def __init__(self) -> None:
        self.now = 1000.0
        self.sessions: list[ServerSession] = []
        self.epochs: dict[int, int] = {}  # the fence: a shard's row

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        for session in self.sessions:
            if self.now - session.heard_at > SESSION_SECONDS:
                session.alive = False
        self.sessions = [session for session in self.sessions if session.alive]

    def connect(self, node: int) -> ServerSession | None:
        """Return None while another session has the lock of this node's number."""
        if any(one.node == node for one in self.sessions):
            return None
        self.sessions.append(ServerSession(node, self.now))
        return self.sessions[-1]

    def end(self, session: ServerSession) -> None:
        session.alive = False
        if session in self.sessions:
            self.sessions.remove(session)

    def holder(self, shard: int) -> ServerSession | None:
        holders = [session for session in self.sessions if session.shards.get(shard)]
        assert len(holders) <= 1, "two sessions hold one lock"
        return holders[0] if holders else None


class FakeLocks:
    """In place of ``Locks``; ``before`` and ``after`` are the seconds a ping takes each way."""

    def __init__(self, server: LockServer, session: ServerSession) -> None:
        self.server = server
        self.session = session
        self.before = self.after = 0.0

    def _arrive(self) -> None:
        if not self.session.alive:
            raise psycopg2.OperationalError("terminating connection")
        self.session.heard_at = self.server.now

    def unlock(self, shards: Collection[int]) -> None:
        self._arrive()
        for shard in shards:
            if self.session.shards.get(shard):  # otherwise PostgreSQL only warns
                self.session.shards[shard] -= 1

    def ping(self, wanted: Collection[int]) -> LockView:
        self.server.pass_time(self.before)
        self._arrive()
        for shard in wanted:
            if self.server.holder(shard) is None:
                self.session.shards[shard] = self.session.shards.get(shard, 0) + 1
        leaders = {
            shard: session.node
            for session in self.server.sessions
            for shard, count in session.shards.items()
            if count
        }
        view = LockView(
            self.session.node, frozenset(one.node for one in self.server.sessions), leaders
        )
        self.server.pass_time(self.after)
        return view


class FakeEngine:
    """Raises the epoch and runs while it may lead; ``busy`` is a turn that does not end."""

    def __init__(self, server: LockServer, shard: int, may_lead: Callable[[], bool]) -> None:
        self.server, self.shard, self.may_lead = server, shard, may_lead
        self.epoch: int | None = None
        self.busy = False
        self._awake = asyncio.Event()

    @property
    def leads(self) -> bool:
        return self.epoch is not None

    def wake(self) -> None:
        self._awake.set()

    async def run(self) -> None:
        while self.may_lead() or self.busy:
            if self.epoch is None and self.may_lead():
                self.epoch = self.server.epochs.get(self.shard, 0) + 1
                self.server.epochs[self.shard] = self.epoch
            self._awake.clear()
            await self._awake.wait()

    @property
    def can_commit(self) -> bool:
        return self.epoch is not None and self.server.epochs[self.shard] == self.epoch


@attrs.frozen
class ShardHead:
    id: int


@attrs.define(slots=False)
class FakeShards:
    """In place of the store: the existing shards."""

    ids: tuple[int, ...]

    async def shards(self) -> list[ShardHead]:
        return [ShardHead(id_) for id_ in self.ids]


class HeldNode:
    """A leadership whose thread and loop take each step when the test says so."""

    def __init__(self, name: str, server: LockServer, heads: FakeShards) -> None:
        self.number = node_number(name)
        self.server = server
        self.mail: list[tuple[Callable[[object], None], object]] = []  # from thread to loop
        self.locks: FakeLocks | None = None
        self.excused = False  # its session was killed, and its loop has not been told yet
        self.leadership = ElectedLeadership(
            "postgresql://nowhere.invalid/x",
            heads,  # type: ignore[arg-type]
            keys=LockKeys.of("key", "cluster"),
            node=name,
            retry_interval=1.0,
            engine_of=lambda shard, may_lead: FakeEngine(server, shard, may_lead),  # type: ignore
        )
        self.leadership._post = lambda told, what: self.mail.append((told, what))  # type: ignore
        self.session = self.leadership._session
        self.session.join = lambda seconds: None  # type: ignore[method-assign]
        self.closing: asyncio.Task[None] | None = None

    @property
    def engines(self) -> dict[int, FakeEngine]:
        return dict(self.leadership.engines)  # type: ignore[arg-type]

    def trusts(self, shard: int) -> bool:
        engine = self.engines.get(shard)
        return engine is not None and engine.may_lead()

    # --- The thread's steps -----------------------------------------------------------------

    def ping(self, before: float = 0.0, after: float = 0.0) -> None:
        """One round of the thread: connect if there is no session, else ping once."""
        if self.locks is None:
            session = self.server.connect(self.number)
            if session is None:
                return
            self.locks = FakeLocks(self.server, session)
            self.locks.claim = lambda again: None  # type: ignore[attr-defined]
            self.session._claim(self.locks)  # type: ignore[arg-type]
            return
        self.locks.before, self.locks.after = before, after
        try:
            self.session._ping(self.locks)  # type: ignore[arg-type]
        except (psycopg2.Error, SessionLost) as error:
            self.lose(str(error))

    def lose(self, why: str, *, server_hears: bool = True) -> None:
        """The thread drops its session; the server may notice only by the silence."""
        assert self.locks is not None
        if server_hears:
            self.server.end(self.locks.session)
        self.locks = None
        self.session._lost(why)

    def killed(self) -> None:
        """The server ends the session, and the node has not noticed yet."""
        assert self.locks is not None
        self.locks.session.killed = True
        self.server.end(self.locks.session)
        self.excused = bool(self.engines)

    # --- The loop's step --------------------------------------------------------------------

    async def step(self, *, reads_mail: bool = True) -> None:
        """Read the thread's messages, look once, and do the engines' work that is due."""
        self.session.tick()
        mail, self.mail = (self.mail, []) if reads_mail else ([], self.mail)
        for told, what in mail:
            told(what)
            if told == self.leadership._lost:
                self.excused = False
        for _ in range(2):  # engines end, then their locks are released
            for engine in self.engines.values():
                engine.wake()
            for _ in range(3):
                await asyncio.sleep(0)
            await self.leadership.run_once()
        await asyncio.sleep(0)
        if self.closing is not None and self.closing.done() and self.locks is not None:
            self.server.end(self.locks.session)
            self.locks = None
