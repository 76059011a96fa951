"""One PostgreSQL connection through aiopg, which no other module names.

What aiopg does and this module does not let through: it makes ``asyncio.CancelledError`` of a
statement that the server canceled, so that a loop with ``except Exception`` would end without a
word; it knows no ``connect_timeout`` and looks names up while everything waits; it follows only the
first of several addresses.
"""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any, TypeVar

import aiopg
import psycopg2
from psycopg2.extensions import parse_dsn

from boxsched.errors import Invalid, OutcomeUnknown, StoreAway
from boxsched.store.blocks import Call, Row, Steps
from boxsched.store.postgres_errors import ends_session, translated
from boxsched.store.postgres_text import Text

CONNECT_SECONDS = 1.0
STATEMENT_SECONDS = 1.8  # then the server ends a statement
ANSWER_SECONDS = 2.0  # then the connection counts as broken; first the server may say why
LONG_SECONDS = 60.0
assert STATEMENT_SECONDS < ANSWER_SECONDS < LONG_SECONDS

# Noticed within seconds: a server that went without a word, in either direction.
_CONNECTING: Mapping[str, Any] = {
    "application_name": "boxsched",
    "client_encoding": "UTF8",
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}
# A frozen client's transaction is rolled back, one whose client is gone does not commit.
_SESSION = f"""
SET statement_timeout = '{STATEMENT_SECONDS}s';
SET lock_timeout = '1s';
SET idle_in_transaction_session_timeout = '1500ms';
SET standard_conforming_strings = on;
SET client_connection_check_interval = '500ms';
SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET TIME ZONE 'UTC';
SET jit = off;
SELECT set_config('synchronous_commit', 'on', false)
 WHERE current_setting('synchronous_commit') = 'off'
"""

T = TypeVar("T")

WRITE = "BEGIN"
SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
LOAD = f"BEGIN; SET LOCAL statement_timeout = '{LONG_SECONDS}s'; SET LOCAL work_mem = '64MB'"


class Connection:
    """A session, used by one task at a time; whoever meets an error in it closes it."""

    def __init__(self, raw: aiopg.Connection, cursor: aiopg.Cursor) -> None:
        self._raw = raw
        self._cursor = cursor
        self.round_trips = 0
        self.broken = False

    @property
    def closed(self) -> bool:
        """Also where the server ended it."""
        return bool(self._raw.closed)

    @property
    def server_version(self) -> int:
        return self._raw.server_version

    @property
    def announced_pid(self) -> int:
        """The backend that the server named when the session began; a proxy names none of it."""
        pid: int = self._raw.raw.get_backend_pid()
        return pid

    def close(self) -> None:
        self._raw.close()

    async def transact(self, begin: str, steps: Steps[T], timeout: float = ANSWER_SECONDS) -> T:
        """A procedure in a transaction; ``begin`` says of which kind.

        What gives no rows waits for the next that does, or for COMMIT: a transaction of nothing
        but writes is one round trip.
        """
        text, sent = Text(begin), False
        try:
            call = next(steps)
            while True:
                _add(text, call)
                found: list[Row] = []
                if call.block.answers and call.rows != []:
                    found = await self.execute(text, timeout)
                    text, sent = Text(), True
                call = steps.send(found)
        except StopIteration as end:
            answer: T = end.value
        if sent or len(text) > 1:
            text.say("COMMIT")
            await self.execute(text, timeout, committing=begin is not SNAPSHOT)
            if self._cursor.statusmessage != "COMMIT":  # of one that failed it makes a ROLLBACK
                raise StoreAway(f"the transaction was not committed: {self._cursor.statusmessage}")
        return answer

    async def read(self, steps: Steps[T]) -> T:
        """A procedure of one statement, which needs no transaction around it."""
        try:
            call = next(steps)
            while True:
                text = Text()
                _add(text, call)
                call = steps.send(await self.execute(text, ANSWER_SECONDS) if text else [])
        except StopIteration as end:
            answer: T = end.value
            return answer

    async def execute(
        self, text: Text | str, timeout: float = ANSWER_SECONDS, *, committing: bool = False
    ) -> list[Row]:
        """The rows of the last statement. One round trip; raises errors of ours only."""
        self.round_trips += 1
        try:
            await self._cursor.execute(str(text), timeout=timeout)
            # Without a description the last statement gives no rows.
            return await self._cursor.fetchall() if self._cursor.description else []
        except UnicodeEncodeError as error:
            raise Invalid(f"a text that the database cannot hold: {error}") from error
        except psycopg2.Error as error:
            self.broken = ends_session(error)
            meant = translated(error, committing=committing)
            if meant is None:
                raise
            raise meant from error
        except TimeoutError as error:
            self.broken = True
            if committing:
                raise OutcomeUnknown(f"no answer to COMMIT within {timeout:g} s") from error
            raise StoreAway(f"no answer within {timeout:g} s") from error
        except asyncio.CancelledError as error:
            if _asked_to_end():
                raise
            raise StoreAway("the database canceled the statement: it took too long?") from error


def _add(text: Text, call: Call) -> None:
    try:
        text.add(call)
    except ValueError as error:
        raise Invalid(f"a text that the database cannot hold: {error}") from error


def _asked_to_end() -> bool:
    """Whether a CancelledError is meant for this task; else aiopg made it of a server's answer."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def connect(url: str) -> Connection:
    """A new session with its settings; raises StoreAway, within CONNECT_SECONDS."""
    why = "its name has no address"
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            places = await _places(url)
            for place in places:
                try:
                    return await _connect(place, CONNECT_SECONDS / len(places))
                except (psycopg2.Error, StoreAway, TimeoutError) as error:
                    why = str(error).strip() or f"no answer within {CONNECT_SECONDS:g} s"
    except (TimeoutError, OSError) as error:
        why = str(error) or f"no answer within {CONNECT_SECONDS:g} s"
    raise StoreAway(f"cannot connect to {named(url)}: {why}")


async def _connect(place: Mapping[str, Any], timeout: float) -> Connection:
    async with asyncio.timeout(timeout):
        raw = await aiopg.connect(
            **place, timeout=timeout, enable_json=False, enable_hstore=False, enable_uuid=False
        )
        try:
            connection = Connection(raw, await raw.cursor())
            await connection.execute(_SESSION)
        except BaseException:
            raw.close()
            raise
        return connection


async def _places(url: str) -> list[dict[str, Any]]:
    """What to connect to, one after the other: an address each, looked up here.

    libpq would wait for the name while the event loop stands still, and take a new socket for its
    next address, of which aiopg knows nothing.
    """
    given = parse_dsn(url)
    hosts = given.get("host", "").split(",")
    ports = given.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    parameters = {**_CONNECTING, **given}
    if "hostaddr" in given:
        return [parameters]
    found: list[dict[str, Any]] = []
    for host, port in zip(hosts, ports, strict=True):
        place = {**parameters, "host": host, "port": port}
        if not host or host.startswith(("/", "@")):
            found.append(place)
            continue
        loop = asyncio.get_running_loop()
        for _, _, _, _, address in await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            found.append({**place, "hostaddr": address[0]})
    return found


def named(url: str) -> str:
    """The database for people: without the password."""
    given = parse_dsn(url)
    host = given.get("host", "the local socket")
    return f"PostgreSQL database {given.get('dbname', '')!r} on {host}"
