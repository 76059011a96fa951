"""The database session that holds a node's locks: psycopg2 in a separate thread.

It does not use aiopg or a pool, because aiopg closes a connection after any cancelled or timed-out
query, which would free all locks. It never waits in the database for a lock: a waiting session is
not idle, so the server would not end it if its process were frozen. Instead, one query every
``PING_SECONDS``, the ping, tries the locks that ``pg_locks`` shows as free and returns who holds
the others. The server ends a session that is silent for ``SESSION_SECONDS``. So a node that
crashed, froze or was disconnected loses its locks in seconds; TCP alone might not notice it for
hours.
"""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import attrs
import psycopg2
from psycopg2.extensions import ISOLATION_LEVEL_AUTOCOMMIT

from boxsched.cluster.locks import TAKES_NO_WRITES, Locks, NameTaken, SessionLost
from boxsched.cluster.shared_locks import OtherCluster, OtherLockKey
from boxsched.cluster.shares import LockView
from boxsched.errors import BoxschedError
from boxsched.protocol.lock_keys import LockKeys
from boxsched.store.postgres.servers import AnotherServer, PostgresServers

log = logging.getLogger(__name__)

PING_SECONDS = 0.1
SESSION_SECONDS = 3.0  # idle_session_timeout
MARGIN_SECONDS = 0.5
TRUST_SECONDS = SESSION_SECONDS - MARGIN_SECONDS  # from the start of the last good ping
STALL_SECONDS = 1.5  # after the event loop was blocked for this long, the node leads nothing
CLAIM_SECONDS = SESSION_SECONDS + 2.0  # the locks of an earlier session are free by then
FIRST_PAUSE_SECONDS = 0.1
assert STALL_SECONDS < TRUST_SECONDS

_CONNECTING: Mapping[str, Any] = {
    "application_name": "boxsched leader",
    "connect_timeout": 2,
    "keepalives": 1,
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 2000,
    "target_session_attrs": "read-write",  # a standby has separate advisory locks
}
_SESSION = f"""
SET idle_session_timeout = '{SESSION_SECONDS}s';
SET statement_timeout = '{TRUST_SECONDS}s';
SET client_connection_check_interval = '500ms';
"""


@attrs.frozen
class PingResult:
    """The result of a ping. ``at``: when it began, by ``clock``."""

    at: float
    view: LockView


def clock() -> float:
    """Return the seconds of a clock that also runs while the process or the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class LockSession:
    """The thread of the session. It calls ``seen`` and ``lost``, which must pass the call on to the
    loop.

    It calls ``failed`` for errors that waiting cannot solve: another node with this name, or, at
    the first claim, another cluster or lock key. If those appear later, while the database is away,
    it waits until they are gone. ``database``: its URL, or the node's ``PostgresServers``, so that
    all sessions use the same server.
    """

    def __init__(
        self,
        database: str | PostgresServers,
        keys: LockKeys,
        node: int,
        *,
        retry_interval: float,
        seen: Callable[[PingResult], None],
        lost: Callable[[str], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self._servers = PostgresServers(database) if isinstance(database, str) else database
        self._keys = keys
        self._node = node
        self._retry_interval = retry_interval
        self._seen = seen
        self._lost = lost
        self._failed = failed
        self._wanted: tuple[int, ...] = ()
        self._releasing: set[int] = set()
        self._ticked = clock()
        self._was_in = False  # whether a claim has succeeded before
        self._kept_out = False
        self._guard = threading.Lock()
        self._ending = threading.Event()
        self._nudged = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lock session", daemon=True)

    # --- From the loop ----------------------------------------------------------------------

    def start(self) -> None:
        self._thread.start()

    def tick(self) -> None:
        """Note that the event loop runs."""
        self._ticked = clock()

    def want(self, shards: Collection[int]) -> None:
        """Set the shards to take when they are free."""
        wanted = tuple(shards)
        if wanted != self._wanted:
            self._wanted = wanted
            self._nudged.set()

    def release(self, shard: int) -> None:
        """Unlock the shard at the next ping, which is sent at once."""
        with self._guard:
            self._releasing.add(shard)
        self._nudged.set()

    def end(self) -> None:
        """Close the session, which unlocks everything. Returns at once."""
        self._ending.set()
        self._nudged.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    # --- In the thread ----------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._live()
        except Exception as error:  # noqa: BLE001 (a mistake of ours: the node is to end by it)
            self._failed(error)

    def _live(self) -> None:
        away_since: float | None = None
        while not self._ending.is_set():
            try:
                with self._session() as locks:
                    away_since = None
                    self._was_in, self._kept_out = True, False
                    self._lead(locks)
            except (OtherCluster, OtherLockKey) as error:
                if not self._was_in:
                    self._failed(error)
                    return
                self._say_kept_out(error)
            except NameTaken as error:
                self._failed(error)
                return
            except (psycopg2.Error, BoxschedError, AnotherServer, SessionLost) as error:
                if away_since is None:
                    self._lost(_message(error))
            if away_since is None:
                away_since = clock()
            # After a short outage the next try comes soon; in a long one tries are rare.
            pause = max(FIRST_PAUSE_SECONDS, (clock() - away_since) / 10)
            self._ending.wait(min(self._retry_interval, pause))

    def _say_kept_out(self, error: Exception) -> None:
        """Log the error once for each such conflict."""
        if not self._kept_out:
            self._kept_out = True
            log.error("this node cannot lead until this conflict ends: %s", error)

    @contextlib.contextmanager
    def _session(self) -> Iterator[Locks]:
        raw = self._servers.connect_raw(_CONNECTING)
        try:
            raw.set_isolation_level(ISOLATION_LEVEL_AUTOCOMMIT)
            with raw.cursor() as cursor:
                cursor.execute(_SESSION)
            locks = Locks(raw, self._keys, self._node)
            self._claim(locks)
            yield locks
        finally:
            raw.close()

    def _claim(self, locks: Locks) -> None:
        patience = clock() + CLAIM_SECONDS

        def again() -> bool:
            if self._ending.wait(PING_SECONDS):
                raise SessionLost("this node is stopping")
            return clock() < patience

        locks.claim(again)
        with self._guard:
            self._releasing.clear()  # from an earlier session, which has released all its locks

    def _lead(self, locks: Locks) -> None:
        key = self._servers.key
        while not self._ending.is_set():
            if self._servers.key != key:
                raise AnotherServer("the database has moved to another server")
            began = self._ping(locks)
            self._nudged.wait(max(0.0, PING_SECONDS - (clock() - began)))
            self._nudged.clear()

    def _ping(self, locks: Locks) -> float:
        """Unlock released shards, take free ones, and report the result; return when the ping
        began.
        """
        began = clock()
        if began - self._ticked > STALL_SECONDS:
            raise SessionLost(f"the event loop was blocked for {began - self._ticked:.1f} s")
        with self._guard:
            released, self._releasing = self._releasing, set()
        if released:
            locks.unlock(released)
        self._seen(PingResult(began, locks.ping(self._wanted)))
        self._servers.pulse.beats()
        return began


def _message(error: Exception) -> str:
    """Return the error in one line, with the message of each host."""
    first, *more = str(error).strip().splitlines() or [repr(error)]
    lines = (first, *(line for line in more if line.startswith("connection to ")))
    read_only = f" ({TAKES_NO_WRITES})" if "session is read-only" in str(error) else ""
    return "; ".join(lines) + read_only
