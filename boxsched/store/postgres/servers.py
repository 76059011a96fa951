"""Choose the server among a URL's hosts: all sessions of a node use that one server.

The first session checks all hosts at the same time and uses the newest server that accepts writes
(``postgres.marks``). Later sessions connect directly to it, and check all hosts again if it is gone
or has changed. ``look_on`` checks every few seconds, because a promoted standby does not announce
itself. A server that is older than what this node has ever seen (``memory``) is not used.

Nothing is read from a restarted server until its synchronous standby has everything that it shows
(``postgres.settling``).

If a server's history is new, the first session that finds it invalidates all numbers issued before
(``steps.history``); only then is the server used.
"""

import asyncio
import concurrent.futures
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import psycopg2

from boxsched.errors import BoxschedError, StoreAway
from boxsched.store.errors import RightMissing, StoreBehind, StoreRefuses
from boxsched.store.memory import Memory
from boxsched.store.postgres.connection import (
    CONNECT_SECONDS,
    LONG_SECONDS,
    WRITE,
    PostgresConnection,
    named,
)
from boxsched.store.postgres.errors import refuses_entry
from boxsched.store.postgres.marks import SERVER, missing, why_behind
from boxsched.store.postgres.places import places
from boxsched.store.postgres.pulse import ServerPulse
from boxsched.store.postgres.settling import Settling
from boxsched.store.postgres.url import places_shown
from boxsched.store.postgres.visits import Place, Visit, mark_of, raw_mark, shown, visited
from boxsched.store.steps import history

SERVERS_LOOK_SECONDS = 5.0
LOG_AGAIN_SECONDS = 60.0

_log = logging.getLogger(__name__)

Key = tuple[str, int, str, str]


class AnotherServer(Exception):
    """A session is not on the server that this node uses."""


@attrs.frozen
class Used:
    place: Place
    key: Key


class PostgresServers:
    """The server that a node uses, for the sessions of the event loop and the lock session's
    thread.

    ``folder``: where it stores what it has seen; None: only in memory.
    """

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self.url = url
        self._memory = Memory(folder)
        self._guard = threading.Lock()
        self._used: Used | None = None
        self._lost = True  # whether the server must be searched
        # one check at a time, because each uses the result of the last one
        self._looking = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None  # the loop of the node's sessions
        self._settling = Settling()
        self._logged: dict[str, float] = {}  # when the refusal of a server was logged
        self.pulse = ServerPulse()  # the pulse of the current server

    def load(self) -> None:
        """Read what was seen before; a file that cannot be read is ignored."""
        self._memory.load()

    # --- Sessions ---------------------------------------------------------------------------

    async def connect(self, timeout: float = CONNECT_SECONDS) -> PostgresConnection:
        """Return a session on the current server. Raises StoreAway after at most ``timeout``
        seconds.
        """
        self._loop = asyncio.get_running_loop()
        ends = self._loop.time() + timeout
        # With several hosts, leave time to check the others.
        first = timeout / 2 if "," in places_shown(self.url) else timeout
        used = self._used
        if used is not None and not self._lost:
            connection = await self._again(used, first)
            if connection is not None:
                return connection
        try:
            async with asyncio.timeout_at(ends):
                async with self._looking:
                    used = self._used
                    if used is None or self._lost:
                        return await self._found((ends - self._loop.time()) * 0.9)
                # Another caller has found it in the meantime. Many may wait here; they connect
                # concurrently.
                connection = await self._again(used, ends - self._loop.time())
                if connection is not None:
                    return connection
        except TimeoutError:
            pass
        raise StoreAway(f"cannot connect to {named(self.url)} within {timeout:.3g} s")

    def connect_raw(self, parameters: Mapping[str, Any]) -> Any:
        """Like ``connect``, but blocking, for a thread, and with psycopg2's own errors."""
        if self._used is None or self._lost:
            self._look_from_thread()
        used = self._used
        assert used is not None
        try:
            raw = psycopg2.connect(**{**used.place, **parameters})
        except psycopg2.Error:
            self.lose()
            raise
        try:
            found = raw_mark(raw)
            if found is None or found.key != used.key:
                self.lose()
                raise AnotherServer("the database has moved to another server")
        except BaseException:
            raw.close()
            raise
        return raw

    def is_used(self, key: Key | None) -> bool:
        """Whether sessions with this key are on the current server."""
        used = self._used
        return used is not None and used.key == key

    @property
    def key(self) -> Key | None:
        """Return the key of the current server; None before the first one is found."""
        used = self._used
        return None if used is None else used.key

    def lose(self) -> None:
        """Make the next session check all hosts again."""
        self._lost = True

    # --- Checking the hosts -----------------------------------------------------------------

    async def look_on(self) -> None:
        """Check for a newer server as long as the node runs."""
        while True:
            await asyncio.sleep(SERVERS_LOOK_SECONDS)
            try:
                async with self._looking:
                    (await self._found(CONNECT_SECONDS)).close()
            except BoxschedError:
                pass  # the callers that need a session get the error

    async def _again(self, used: Used, timeout: float) -> PostgresConnection | None:
        """Return a session on this server; None if it is gone or has changed."""
        visit = await visited(used.place, timeout)
        if isinstance(visit, Visit):
            if visit.mark.key == used.key:
                visit.connection.pulse = self.pulse
                return visit.connection
            visit.connection.close()
        self._lost = True
        return None

    def _look_from_thread(self) -> None:
        """Check in the loop of the node's other sessions, if there are any, so that two checks
        never run at the same time.
        """
        if self._loop is None:
            asyncio.run(self._look())
            return
        look = self._look()
        try:
            looking = asyncio.run_coroutine_threadsafe(look, self._loop)
        except RuntimeError:
            look.close()
            raise StoreAway("this node is stopping") from None
        try:
            looking.result(2 * CONNECT_SECONDS)
        except TimeoutError:
            looking.cancel()
            raise StoreAway(f"no server was found within {2 * CONNECT_SECONDS:g} s") from None
        except concurrent.futures.CancelledError:
            raise StoreAway("this node is stopping") from None

    async def _look(self) -> None:
        """Check all hosts, unless another check has found the server in the meantime."""
        async with self._looking:
            if self._used is None or self._lost:
                (await self._found(CONNECT_SECONDS)).close()

    async def _found(self, timeout: float) -> PostgresConnection:
        "Return a session on the newest server of all hosts, which is the current one from now"
        "on."
        try:
            found = await places(self.url)
        except OSError as error:
            raise StoreAway(f"cannot connect to {named(self.url)}: {error}") from error
        visits = await asyncio.gather(*(visited(place, timeout) for place in found))
        there = [visit for visit in visits if isinstance(visit, Visit)]
        chosen: Visit | None = None
        try:
            behind = {visit: self._why_behind(visit) for visit in there}
            fit = [visit for visit in there if behind[visit] is None]
            if not fit:
                self._refuse([visit for visit in visits if isinstance(visit, Exception)], behind)
            chosen = max(fit, key=lambda visit: visit.mark.age)
            await self._use(chosen, timeout)
            return chosen.connection
        except BaseException:
            chosen = None
            raise
        finally:
            for visit in there:
                if visit is not chosen:
                    visit.connection.close()

    def _why_behind(self, visit: Visit) -> str | None:
        why = why_behind(visit.mark, self._memory.seen)
        if why is None:
            return None
        where = shown(visit.place)
        now = time.monotonic()
        if now - self._logged.get(where, -LOG_AGAIN_SECONDS) >= LOG_AGAIN_SECONDS:
            self._logged[where] = now
            _log.error(
                "the database on %s is behind what this node has seen of it, and is not used: %s. "
                "An old primary that came back must not take writes: stop it. If a backup was "
                "restored, run boxsched db restored",
                where,
                why,
            )
        return f"{where} is behind what this node has seen of the database: {why}"

    def _refuse(self, errors: list[Exception], behind: Mapping[Visit, str | None]) -> None:
        for error in errors:
            if isinstance(error, RightMissing):
                raise error
        if behind:
            raise StoreBehind(
                f"{'; '.join(why for why in behind.values() if why)}; it is used only after "
                "boxsched db restored"
            )
        said = [str(error).strip() for error in errors]
        why = "; ".join(dict.fromkeys(said)) or "its name has no address"
        meant = StoreRefuses if said and refuses_entry(said[-1]) else StoreAway
        raise meant(f"cannot connect to {named(self.url)}: {why}")

    async def _use(self, visit: Visit, timeout: float) -> None:
        connection, now = visit.connection, visit.mark
        if now.cluster and now.is_new_history:
            await self._go_on(visit)
            now = await mark_of(connection, await connection.execute(SERVER)) or now
        if now.cluster:
            await self._settling.settled(visit.place, now.key, timeout)
        key = connection.server = now.key
        if not self.is_used(key):
            self.pulse = (
                ServerPulse()
            )  # do not wait for commits of the former server while this one is alive
        connection.pulse = self.pulse
        if now.lineage:
            with self._guard:
                self._memory.note(now)
            await asyncio.to_thread(self._memory.save)  # the disk may be slow
        with self._guard:
            before, self._used = self._used, Used(visit.place, key)
            self._lost = False
        if before is not None and (before.place, before.key[:2]) != (visit.place, key[:2]):
            _log.warning(
                "the database is on %s now, on timeline %d", shown(visit.place), now.timeline
            )

    async def _go_on(self, visit: Visit) -> None:
        """Invalidate all numbers issued on the former server; return what may be missing."""
        connection, new = visit.connection, visit.mark
        jumped = await connection.transact(
            WRITE,
            history.go_on(secrets.token_hex(16), new.system, new.timeline, time.time()),
            LONG_SECONDS,
        )
        if not jumped:
            return
        lost = missing(new, self._memory.seen)
        _log.error(
            "the database continues with a new history on %s, timeline %d: what was committed last "
            "before the failover may be missing, builds and results that were answered included%s. "
            "Epochs, lease tokens, event ids and workload ids have jumped ahead; workers end what "
            "the database does not know",
            shown(visit.place),
            new.timeline,
            f"; of the batches that this node has seen, these are missing: {lost}" if lost else "",
        )
