"""Opening a PostgreSQL database: is it one we can use, and is its schema up to date?"""

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
    """Raises Invalid, which says what is wrong with the server or the database."""
    if connection.server_version < OLDEST_SERVER:
        raise Invalid(f"PostgreSQL 15 or newer is needed, not {connection.server_version}")
    found = await connection.execute("SHOW server_encoding")
    if found[0][0] != "UTF8":
        raise Invalid(f"the database's encoding is {found[0][0]}: create it with UTF8")


async def refuse_transaction_pooling(one: PostgresConnection, other: PostgresConnection) -> None:
    """A proxy that gives each transaction another backend loses the sessions' settings and locks.

    Without a proxy a session's backend is the one announced. Behind one, the other session's open
    transaction holds a backend, so that ours has to come by another, if it is not our own.
    """
    first = await one.execute(_PID)
    if first[0][0] == one.announced_pid:
        return
    held = await other.execute(f"BEGIN; {_PID}")
    again = await one.execute(_PID)
    await other.execute("ROLLBACK")
    if again != first or held == first:
        raise Invalid(
            "a proxy that pools transactions stands before the database: connect to PostgreSQL "
            "itself, or let the proxy pool sessions (PgBouncer: pool_mode = session)"
        )


async def upgrade(connection: PostgresConnection) -> int:
    """Bring the schema up to date, in one transaction; a crash in it leaves the old one.

    Of two services that start at once one waits for the other, and finds it done. Returns the
    version that was there before, 0 where there was nothing.
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
            f"the database {has}, this boxsched needs schema {SCHEMA_VERSION}, and this role may "
            "not change it: run boxsched db upgrade as the owner of the database"
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
    """Where the tables are: the schema in PostgreSQL's sense."""
    ((name,),) = await connection.execute("SELECT CAST(current_schema() AS text)")
    return str(name)


async def _said(connection: PostgresConnection) -> dict[str, str]:
    """What ``meta`` says; nothing where the database is empty."""
    if await connection.execute("SELECT 1 WHERE to_regclass('meta') IS NULL"):
        return {}
    return dict(await connection.execute("SELECT key, value FROM meta"))
