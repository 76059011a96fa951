"""A PostgreSQL connection that runs procedures in transactions and raises only boxsched's
errors."""

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, TypeVar

import psycopg2

from boxsched.errors import Invalid, OutcomeUnknown, StoreAway
from boxsched.store.blocks import Call, Row, Steps
from boxsched.store.driver import advanced
from boxsched.store.errors import StoreRefuses
from boxsched.store.postgres.aiopg_connection import AiopgSession, Cursor, session
from boxsched.store.postgres.errors import ends_session, refuses_entry, takes_no_writes, translated
from boxsched.store.postgres.places import places
from boxsched.store.postgres.pulse import STATEMENT_LOCKS, ServerPulse
from boxsched.store.postgres.text import Text
from boxsched.store.postgres.url import parsed, places_shown

CONNECT_SECONDS = 1.0
STATEMENT_SECONDS = 1.5  # time limit of a statement in the server
ANSWER_SECONDS = 1.7  # after this the connection counts as broken; longer than STATEMENT_SECONDS
PAGE_SECONDS = 4.5  # the same for a page of a load
PAGE_ANSWER_SECONDS = 5.0
LONG_SECONDS = 60.0
assert STATEMENT_SECONDS < ANSWER_SECONDS < PAGE_SECONDS < PAGE_ANSWER_SECONDS < LONG_SECONDS

# The server rolls back the transaction of a frozen client, and does not commit if the client is
# gone.
_SESSION = f"""
SET statement_timeout = '{STATEMENT_SECONDS}s';
SET lock_timeout = '1s';
SET idle_in_transaction_session_timeout = '1500ms';
SET standard_conforming_strings = on;
SET client_connection_check_interval = '500ms';
SET default_transaction_isolation = 'read committed';
SET TIME ZONE 'UTC';
SET jit = off;
SELECT set_config('synchronous_commit', 'on', false)
 WHERE current_setting('synchronous_commit') = 'off'
"""

ROWS_WRITTEN_AT_ONCE = 500  # converted to text on the event loop; more are converted in a thread

T = TypeVar("T")

WRITE = "BEGIN"
# Every answer must wait for the standby, also if the data was only found. A transaction that wrote
# nothing would not wait, so it writes an unused message into the WAL.
DURABLE = """SELECT pg_logical_emit_message(TRUE, 'boxsched', '')
 WHERE pg_current_xact_id_if_assigned() IS NULL"""
# Each statement of a snapshot should use an index; with outdated statistics PostgreSQL may not.
ALONG_INDEXES = """SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_sort = off;
SET LOCAL enable_hashjoin = off;
SET LOCAL enable_mergejoin = off"""
SNAPSHOT = f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n{ALONG_INDEXES}"
# A load may be idle for long, because it delays no other transaction.
LOAD = f"""{SNAPSHOT};
SET LOCAL statement_timeout = '{PAGE_SECONDS}s';
SET LOCAL idle_in_transaction_session_timeout = '{LONG_SECONDS}s'"""


class PostgresConnection:
    """A session, used by one task at a time. After an error the task closes it."""

    def __init__(self, raw: AiopgSession, cursor: Cursor) -> None:
        self._raw = raw
        self._cursor = cursor
        self.round_trips = 0
        self.broken = False
        # when the next answer must have arrived, by the loop's clock
        self.until: float | None = None
        # the server that it is on (postgres_marks)
        self.server: tuple[str, int, str, str] | None = None
        self.pulse: ServerPulse | None = None  # the pulse of that server
        self.greeting: list[Row] = []

    @property
    def closed(self) -> bool:
        """Whether the session is closed, also by the server."""
        return bool(self._raw.closed)

    @property
    def server_version(self) -> int:
        return self._raw.server_version

    @property
    def announced_pid(self) -> int:
        """The backend's process id from the start of the session; a proxy sends another one."""
        pid: int = self._raw.raw.get_backend_pid()
        return pid

    def close(self) -> None:
        self._raw.close()

    async def transact(self, begin: str, steps: Steps[T], timeout: float = ANSWER_SECONDS) -> T:
        """Run a procedure in a transaction. ``begin``: the statement that begins it.

        A statement without rows is sent with the next one that has rows, or with COMMIT. So a
        transaction that only writes is one round trip.
        """
        text, sent = Text(begin), False
        if begin is WRITE and self.pulse is not None and (patience := self.pulse.patience):
            text = Text(f"{begin}; {self.pulse.settings(patience)}")
            timeout += STATEMENT_LOCKS * (1 + patience)
            if self.pulse.is_well:
                self.until = None  # the answer has arrived
        try:
            call = next(steps)
            while True:
                if call.rows is not None and len(call.rows) > ROWS_WRITTEN_AT_ONCE:
                    await asyncio.to_thread(_add, text, call)
                else:
                    _add(text, call)
                found: list[Row] = []
                if call.block.returns and call.rows != []:
                    found = await self.execute(text, timeout)
                    text, sent = Text(), True
                call = steps.send(found)
        except StopIteration as end:
            answer: T = end.value
        if sent or len(text) > 1:
            if begin is WRITE:
                text.say(DURABLE)
            text.say("COMMIT")
            await self.execute(text, timeout, committing=begin is WRITE)
            self._refuse_half_durable()
            # PostgreSQL turns the COMMIT of a failed transaction into a ROLLBACK
            if self._cursor.statusmessage != "COMMIT":
                raise StoreAway(f"the transaction was not committed: {self._cursor.statusmessage}")
        return answer

    def _refuse_half_durable(self) -> None:
        "Raise if someone ended the wait for the standby: then the server commits and only warns."
        with contextlib.suppress(psycopg2.Error):  # the session ended after the answer
            # The next poll processes a warning that was received together with the answer.
            self._raw.raw.poll()
        notices = self._raw.notices
        if notices and any("synchronous replication" in notice for notice in notices):
            notices.clear()
            raise OutcomeUnknown("committed, but the synchronous standby has not confirmed it")

    async def load(self, steps: Steps[T]) -> T:
        "Run a procedure that reads many rows, in a snapshot. It processes the rows in a thread."
        text = Text(LOAD)
        found: list[Row] | None = None
        while True:
            call = await asyncio.to_thread(advanced, steps, found)
            if not isinstance(call, Call):
                break
            found = []
            if call.rows != []:
                await asyncio.to_thread(_add, text, call)
                found = await self.execute(text, PAGE_ANSWER_SECONDS)
                text = Text()
        if not text:
            text.say("COMMIT")
            await self.execute(text, PAGE_ANSWER_SECONDS)
        return call[0]

    async def read(self, steps: Steps[T]) -> T:
        """Run a procedure of one statement, which needs no explicit transaction."""
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
        "Return the rows of the last statement, in one round trip. Raises only boxsched's errors."
        self.round_trips += 1
        timeout = within(timeout, self.until)
        pulse = self.pulse
        try:
            if committing and pulse is not None:
                with pulse.committing() as goes_on:
                    self._raw.goes_on = goes_on
                    await self._cursor.execute(str(text), timeout=timeout)
            else:
                await self._cursor.execute(str(text), timeout=timeout)
            # Without a description the last statement has no rows.
            rows = await self._cursor.fetchall() if self._cursor.description else []
        except UnicodeEncodeError as error:
            raise Invalid(f"the database cannot store this text: {error}") from error
        except psycopg2.Error as error:
            self.broken = ends_session(error) or takes_no_writes(error)
            meant = translated(error, committing=committing)
            if meant is None:
                raise
            raise meant from error
        except TimeoutError as error:
            self.broken = True
            if committing:
                raise OutcomeUnknown(f"no answer to COMMIT within {timeout:.3g} s") from error
            raise StoreAway(f"no answer within {timeout:.3g} s") from error
        finally:
            self._raw.goes_on = None
        self.until = None
        if pulse is not None:
            pulse.beats()
        return rows


def within(seconds: float, until: float | None) -> float:
    """Return a timeout of ``seconds`` that also ends at the time ``until``."""
    if until is None:
        return seconds
    return max(0.0, min(seconds, until - asyncio.get_running_loop().time()))


def _add(text: Text, call: Call) -> None:
    try:
        text.add(call)
    except ValueError as error:
        raise Invalid(f"the database cannot store this value: {error}") from error


async def connect(url: str, timeout: float = CONNECT_SECONDS) -> PostgresConnection:
    """Return a new session with its settings. Raises StoreAway after at most ``timeout`` seconds.

    Raises StoreRefuses if the last of several addresses refuses the session.
    """
    why = "its name has no address"
    try:
        async with asyncio.timeout(timeout):
            found = await places(url)
            for place in found:
                try:
                    return await connect_to(place, timeout / len(found))
                except (psycopg2.Error, StoreAway, TimeoutError) as error:
                    why = str(error).strip() or f"no answer within {timeout:.3g} s"
    except (TimeoutError, OSError) as error:
        why = str(error) or f"no answer within {timeout:.3g} s"
    meant = StoreRefuses if refuses_entry(why) else StoreAway
    raise meant(f"cannot connect to {named(url)}: {why}")


async def connect_to(place: Mapping[str, Any], timeout: float, ask: str = "") -> PostgresConnection:
    """Return a new session at this address, with its settings; ``greeting`` has the answer to
    ``ask``.
    """
    async with asyncio.timeout(timeout):
        raw = await session(place, timeout)
        try:
            connection = PostgresConnection(raw, await raw.cursor())
            connection.greeting = await connection.execute(f"{_SESSION};{ask}" if ask else _SESSION)
        except BaseException:
            raw.close()
            raise
        return connection


def named(url: str) -> str:
    """Return the database's name for people, without the password."""
    return f"PostgreSQL database {parsed(url).get('dbname', '')!r} on {places_shown(url)}"
