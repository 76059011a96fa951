"""Choose the server among a URL's hosts: all sessions of a node use that one server.

The first session looks at every host at once and takes the newest server that takes writes
(``postgres_marks``). Later ones go straight to it, and look again where it is gone or is another
one by now. ``look_on`` looks again every few seconds, since a promoted standby says nothing by
itself. A server that is older than what this node has seen, in this life or an earlier one
(``memory``), is not used.

Nothing is read from a server that was restarted until its synchronous standby has what it shows
(``postgres_settling``).

Where a server's history is new, the session that finds it first makes everything void that was
given out before (``steps.history``), and only then is the server used at all.
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
from boxsched.store.postgres.pulse import Pulse
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


class Servers:
    """The server that a node uses; for the event loop's sessions and the lock session's thread.

    ``folder``: where it remembers what it has seen; None: nowhere.
    """

    def __init__(self, url: str, folder: Path | None = None) -> None:
        self.url = url
        self._memory = Memory(folder)
        self._guard = threading.Lock()
        self._used: Used | None = None
        self._lost = True  # to be looked for
        self._looking = asyncio.Lock()  # one look at a time: each judges by what the last one saw
        self._loop: asyncio.AbstractEventLoop | None = None  # of the node's sessions
        self._settling = Settling()
        self._logged: dict[str, float] = {}  # when the refusal of a server was logged
        self.pulse = Pulse()  # of the server that is used

    def load(self) -> None:
        """Read what was seen before; a file that cannot be read is ignored."""
        self._memory.load()

    # --- Sessions ---------------------------------------------------------------------------

    async def connect(self, timeout: float = CONNECT_SECONDS) -> PostgresConnection:
        """A session on the server that is used; raises StoreAway, within that time."""
        self._loop = asyncio.get_running_loop()
        ends = self._loop.time() + timeout
        # Of several hosts the others are to be seen in what is left of the time.
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
                # Another has found it meanwhile. Many may wait here: they connect side by side.
                connection = await self._again(used, ends - self._loop.time())
                if connection is not None:
                    return connection
        except TimeoutError:
            pass
        raise StoreAway(f"cannot connect to {named(self.url)} within {timeout:.3g} s")

    def connect_raw(self, parameters: Mapping[str, Any]) -> Any:
        """As ``connect``, from a thread that may wait, and with psycopg2's own errors."""
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
                raise AnotherServer("the database is on another server by now")
        except BaseException:
            raw.close()
            raise
        return raw

    def is_used(self, key: Key | None) -> bool:
        """Whether sessions with that key are on the server that is used."""
        used = self._used
        return used is not None and used.key == key

    @property
    def key(self) -> Key | None:
        """The key of the server that is used; None before the first one is found."""
        used = self._used
        return None if used is None else used.key

    def lose(self) -> None:
        """Let the next session look at all hosts again."""
        self._lost = True

    # --- Looking ----------------------------------------------------------------------------

    async def look_on(self) -> None:
        """Look for a newer server for as long as the node lives."""
        while True:
            await asyncio.sleep(SERVERS_LOOK_SECONDS)
            try:
                async with self._looking:
                    (await self._found(CONNECT_SECONDS)).close()
            except BoxschedError:
                pass  # the callers that need a session get the error

    async def _again(self, used: Used, timeout: float) -> PostgresConnection | None:
        """None where that server is not there any more."""
        visit = await visited(used.place, timeout)
        if isinstance(visit, Visit):
            if visit.mark.key == used.key:
                visit.connection.pulse = self.pulse
                return visit.connection
            visit.connection.close()
        self._lost = True
        return None

    def _look_from_thread(self) -> None:
        """In the loop of the node's other sessions, if there are any: two looks at once would
        judge by what neither had seen yet."""
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
        """Unless another look has found the server meanwhile."""
        async with self._looking:
            if self._used is None or self._lost:
                (await self._found(CONNECT_SECONDS)).close()

    async def _found(self, timeout: float) -> PostgresConnection:
        """A session on the newest server of all hosts, which is used from now on."""
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
                Pulse()
            )  # what the former server owes is not waited for while this one lives
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
        """All that was given out on the former server is void; tells what may be missing."""
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
            "the database goes on with a new history on %s, timeline %d: what was committed last "
            "before the failover may be missing, builds and results that were answered included%s. "
            "Epochs, lease tokens, event ids and workload ids have jumped ahead; workers end what "
            "the database does not know",
            shown(visit.place),
            new.timeline,
            f"; of the batches that this node has seen there are not: {lost}" if lost else "",
        )
