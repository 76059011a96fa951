"""Translate PostgreSQL's errors into boxsched's; the only module that uses their codes."""

import re

import psycopg2
from psycopg2 import errorcodes

from boxsched.errors import (
    BoxschedError,
    Fenced,
    Invalid,
    OutcomeUnknown,
    StoreAway,
    TooLong,
    disk_full,
)
from boxsched.store.constraints import RACES
from boxsched.store.errors import InvariantRefused, RightMissing, StoreDamaged

# Conflicts with another transaction, which a repeated transaction sees.
_RACES = {errorcodes.SERIALIZATION_FAILURE, errorcodes.DEADLOCK_DETECTED}
_DAMAGED = {errorcodes.DATA_CORRUPTED, errorcodes.INDEX_CORRUPTED}
_AWAY = {
    errorcodes.READ_ONLY_SQL_TRANSACTION: "the database accepts no writes: a standby, or read-only",
    errorcodes.TOO_MANY_CONNECTIONS: "the database has too many connections",
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT: "the transaction was left alone too long",
}
_AWAY_CLASSES = {
    errorcodes.CLASS_CONNECTION_EXCEPTION,
    errorcodes.CLASS_INVALID_AUTHORIZATION_SPECIFICATION,
    errorcodes.CLASS_INVALID_CATALOG_NAME,
    errorcodes.CLASS_INSUFFICIENT_RESOURCES,
    errorcodes.CLASS_OPERATOR_INTERVENTION,
    errorcodes.CLASS_SYSTEM_ERROR,
}
_UNHOLDABLE = {
    errorcodes.NUMERIC_VALUE_OUT_OF_RANGE,
    errorcodes.CHARACTER_NOT_IN_REPERTOIRE,
    errorcodes.UNTRANSLATABLE_CHARACTER,
}
# libpq does not pass on the error code of a refused session, so its English message is matched. A
# message in another language counts as an outage, which ends with the same error a little later.
_NO_ENTRY = re.compile(
    r"password authentication failed|no password supplied|no pg_hba\.conf entry"
    r"|(role|database) \".*\" does not exist|is not permitted to log in"
    r"|permission denied for database|authentication failed for user"
)
_REFUSED = {errorcodes.CLASS_INTEGRITY_CONSTRAINT_VIOLATION}


class LostRace(StoreAway):
    """Conflict with another transaction: nothing was done; repeat this one."""


class RowHeld(StoreAway):
    """Another transaction holds a lock that this one needs: nothing was done."""


def ends_session(error: psycopg2.Error) -> bool:
    """Whether the connection is lost: what was sent may or may not have been done."""
    if error.pgcode is None:  # an error of libpq, not of the server
        return not isinstance(error, psycopg2.ProgrammingError | psycopg2.NotSupportedError)
    return error.diag.severity_nonlocalized in ("FATAL", "PANIC")


def takes_no_writes(error: psycopg2.Error) -> bool:
    """Whether the server no longer accepts writes, so that another one must be found."""
    return error.pgcode == errorcodes.READ_ONLY_SQL_TRANSACTION


def refuses_entry(said: str) -> bool:
    """Whether connecting again would fail in the same way."""
    return _NO_ENTRY.search(said) is not None


def translated(error: psycopg2.Error, *, committing: bool = False) -> BoxschedError | None:
    """Return the error to raise instead; None for a bug, whose error is raised unchanged.

    ``committing``: the text contained COMMIT. After an ERROR it was not reached or was refused;
    after a broken connection the outcome is unknown.
    """
    detail = str(error).strip().partition("\n")[0]
    if ends_session(error):
        # psycopg2 raises InterfaceError if nothing was sent.
        if committing and not isinstance(error, psycopg2.InterfaceError):
            return OutcomeUnknown(f"the connection broke while committing: {detail}")
        return StoreAway(f"the connection broke: {detail}")
    code = error.pgcode or ""
    if code == errorcodes.NOT_NULL_VIOLATION and _column(error) == ("shard", "batch"):
        return Fenced("another node leads the shard, or this batch was committed before")
    if code in _RACES or error.diag.constraint_name in RACES:
        return LostRace(detail)
    if code == errorcodes.DISK_FULL:
        return disk_full(f"the database's disk is full: {detail}")
    if code == errorcodes.LOCK_NOT_AVAILABLE:
        return RowHeld(f"another transaction holds a lock that this one needs: {detail}")
    if code == errorcodes.INSUFFICIENT_PRIVILEGE:
        return RightMissing(
            f"the database's role lacks a right: {detail}; "
            "the owner of the tables grants it with boxsched db upgrade --grant ROLE"
        )
    if code in _DAMAGED:
        return StoreDamaged(f"the database is damaged: {detail}")
    if code == errorcodes.QUERY_CANCELED:
        return TooLong(f"the database canceled the statement: {detail}")
    if code in _AWAY:
        return StoreAway(f"{_AWAY[code]}: {detail}")
    if code[:2] in _AWAY_CLASSES:
        return StoreAway(f"the database does not support this: {detail}")
    if code in _UNHOLDABLE:
        return Invalid(f"the database cannot store this value: {detail}")
    if code[:2] in _REFUSED:
        return InvariantRefused(f"refused by the schema: {detail}")
    return None


def _column(error: psycopg2.Error) -> tuple[str | None, str | None]:
    return error.diag.table_name, error.diag.column_name
