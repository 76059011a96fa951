"""Open a PostgreSQL database: check that it can be used, and upgrade its schema."""

import uuid

from boxsched.errors import Invalid
from boxsched.store.blocks import load
from boxsched.store.errors import RightMissing, SchemaTooOld
from boxsched.store.postgres.connection import LONG_SECONDS, PostgresConnection
from boxsched.store.postgres.text import Text
from boxsched.store.schema import SCHEMA_VERSION, facts, upgrades

SQL = load("postgres.sql")

OLDEST_SERVER = 150_000
UPGRADE_LOCK = int.from_bytes(b"BxSchUpg")  # advisory; held by one upgrade at a time

_LOCKED = f"""
BEGIN;
SET LOCAL statement_timeout = '{LONG_SECONDS}s';
SET LOCAL lock_timeout = '{LONG_SECONDS}s';
SELECT pg_advisory_xact_lock({UPGRADE_LOCK})
"""
_PID = "SELECT pg_backend_pid()"


async def refuse_if_unfit(connection: PostgresConnection) -> None:
    """Raise Invalid if the server or the database cannot be used."""
    if connection.server_version < OLDEST_SERVER:
        raise Invalid(f"PostgreSQL 15 or newer is needed, not {connection.server_version}")
    found = await connection.execute("SHOW server_encoding")
    if found[0][0] != "UTF8":
        raise Invalid(f"the database's encoding is {found[0][0]}: create it with UTF8")


async def refuse_transaction_pooling(one: PostgresConnection, other: PostgresConnection) -> None:
    """Refuse a proxy that gives each transaction another backend: sessions lose settings and locks.

    Without a proxy, a session's backend is the announced one. Behind a proxy, the open transaction
    of the other session occupies a backend, so our session gets another one.
    """
    first = await one.execute(_PID)
    if first[0][0] == one.announced_pid:
        return
    held = await other.execute(f"BEGIN; {_PID}")
    again = await one.execute(_PID)
    await other.execute("ROLLBACK")
    if again != first or held == first:
        raise Invalid(
            "a proxy in front of the database pools transactions: connect to PostgreSQL "
            "directly, or let the proxy pool sessions (PgBouncer: pool_mode = session)"
        )


async def upgrade(connection: PostgresConnection) -> int:
    """Bring the schema up to date, in one transaction; a crash in it leaves the old one.

    If two services start at the same time, one waits for the other and finds it done. Return the
    version before, 0 if the database was empty.
    """
    await connection.execute(_LOCKED, LONG_SECONDS)
    said = await _said(connection)
    texts = list(upgrades(said, "postgres"))
    try:
        for text in texts:
            await connection.execute(text, LONG_SECONDS)
    except RightMissing as error:
        has = f"has schema {said['schema']}" if said else "is empty"
        raise SchemaTooOld(
            f"the database {has}, this boxsched needs schema {SCHEMA_VERSION}, and this role "
            "cannot "
            "change it: run boxsched db upgrade as the owner of the database"
        ) from error
    if texts:
        cluster = said.get("cluster") or uuid.uuid4().hex
        say = Text()
        for key, value in {"cluster": cluster, **facts()}.items():
            say.add(SQL["say"](key=key, value=value))
        await connection.execute(say)
    await connection.execute("COMMIT", committing=True)
    return int(said.get("schema", "0"))


async def place(connection: PostgresConnection) -> str:
    """Return the PostgreSQL schema that contains the tables."""
    ((name,),) = await connection.execute("SELECT CAST(current_schema() AS text)")
    return str(name)


async def _said(connection: PostgresConnection) -> dict[str, str]:
    """Return the content of ``meta``; empty if the database is empty."""
    if await connection.execute("SELECT 1 WHERE to_regclass('meta') IS NULL"):
        return {}
    return dict(await connection.execute("SELECT key, value FROM meta"))
