"""Operations on a whole database: ``boxsched db``."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from boxsched.errors import StoreAway
from boxsched.protocol.lock_keys import DEFAULT_LOCK_KEY, LockKeys
from boxsched.store import is_postgres, open_store, sqlite_path
from boxsched.store.blocks import Row, Steps, load
from boxsched.store.operating.session import Session, opened, refuse_other_schema, shown
from boxsched.store.schema import SCHEMA_VERSION
from boxsched.store.sqlite.session import SqliteSession
from boxsched.store.steps import maintenance
from boxsched.store.steps.maintenance import JUMP, ShardStanding
from boxsched.store.tables import TABLES

if TYPE_CHECKING:
    from boxsched.store.postgres.roles import Rights

_ASK = load("operating_postgres.sql")
_ASK_SQLITE = load("operating_sqlite.sql")


@attrs.frozen
class TableSize:
    name: str
    rows: int  # according to the database's statistics
    bytes: int


@attrs.frozen
class DatabaseState:
    """The database's state. ``rights`` and the fields after it are only for PostgreSQL.

    ``default_lock_key``: whether the running nodes use it; None if none is running.
    """

    database: str
    cluster: str
    schema: int
    schema_of_program: int
    unfinished: int  # workloads
    commands: int  # commands that wait for a leader
    shards: tuple[ShardStanding, ...]
    server: str = ""
    bytes: int = 0
    tables: tuple[TableSize, ...] = ()
    rights: "Rights | None" = None
    commit_times: bool | None = None
    default_lock_key: bool | None = None


@attrs.frozen
class Upgraded:
    """Versions of the schema; 0 = none. ``place``: PostgreSQL's schema, if not public."""

    before: int
    after: int
    place: str = ""


async def upgrade(url: str) -> Upgraded:
    """Prepare an empty database, or upgrade an older one, as the owner of its tables."""
    if not is_postgres(url):
        before = _schema_of_file(url)
        # A backup with an older schema is first upgraded, then marked as restored.
        store = open_store(url, sqlite_path(url).parent, remembers=False)
        await store.open()
        await store.close()
        return Upgraded(before, max(before, SCHEMA_VERSION))
    from boxsched.store.postgres import schema as postgres_schema
    from boxsched.store.postgres.connection import connect

    connection = await connect(url)
    try:
        await postgres_schema.refuse_if_unfit(connection)
        before = await postgres_schema.upgrade(connection)
        place = await postgres_schema.place(connection)
    finally:
        connection.close()
    return Upgraded(before, max(before, SCHEMA_VERSION), "" if place == "public" else place)


def _schema_of_file(url: str) -> int:
    if not sqlite_path(url).is_file():
        return 0
    with opened(url) as session:
        return int(session.said().get("schema", "0"))


def grants(url: str, asked: Sequence[tuple[str, bool]]) -> list[str]:
    """Return the statements that ``grant`` would run. ``asked``: (role, whether it only reads)."""
    from boxsched.store.postgres import roles as postgres_roles
    from boxsched.store.postgres.session import session

    with session(url, writing=False) as one:
        refuse_other_schema(one)
        return [
            statement.as_string(one.raw)
            for role, reads in asked
            for statement in postgres_roles.grants(one, role, reads=reads)
        ]


def grant(url: str, asked: Sequence[tuple[str, bool]]) -> list["Rights"]:
    """Grant the rights of these roles, and renew those of roles with earlier grants."""
    if not is_postgres(url):
        return []
    from boxsched.store.postgres import roles as postgres_roles
    from boxsched.store.postgres.session import session

    with session(url, writing=True) as one:
        refuse_other_schema(one)
        roles = {**dict(postgres_roles.granted(one)), **dict(asked)}
        return [postgres_roles.grant(one, role, reads=reads) for role, reads in roles.items()]


def standing(url: str) -> DatabaseState:
    """Return the database's state. Raises StoreAway if it cannot be read, SchemaTooOld."""
    with opened(url) as session:
        refuse_other_schema(session)
        said = session.said()
        unfinished, commands = session.run(maintenance.load_now())
        found = DatabaseState(
            database=shown(url),
            cluster=said["cluster"],
            schema=int(said["schema"]),
            schema_of_program=SCHEMA_VERSION,
            unfinished=unfinished,
            commands=commands,
            shards=tuple(session.run(maintenance.shards())),
        )
        if isinstance(session, SqliteSession):
            return _of_file(found, sqlite_path(url), session)
        return _of_server(found, session)


def restored(url: str) -> list[Row]:
    """Invalidate all numbers issued since the backup; return each (shard, epoch, batch).

    No epoch, lease token, event id or row id that was issued between the backup and its restoration
    is issued again, and none of them is valid any more.
    """
    with opened(url, writing=True) as session:
        refuse_other_schema(session)
        if isinstance(session, SqliteSession):
            shards = session.run(maintenance.restored())
            session.run(_jump_ids())
        else:
            shards = session.run(maintenance.restored(*_server(session)))
            _jump_sequences(session)
        return shards


def _server(session: Session) -> tuple[str, int]:
    """Return the server's system identifier and timeline."""
    from boxsched.store.postgres.marks import SERVER, mark
    from boxsched.store.postgres.session import PostgresSession

    assert isinstance(session, PostgresSession)
    (row,) = session.say(SERVER)
    found = mark(row, None)
    if found is None:
        raise StoreAway("the database accepts no writes: it is a standby")
    return found.system, found.timeline


def _jump_ids() -> Steps[None]:
    yield _ASK_SQLITE["jump_ids"](by=JUMP)
    yield _ASK_SQLITE["jump_workload_ids"](by=JUMP)


def _jump_sequences(session: Session) -> None:
    from boxsched.store.postgres import roles as postgres_roles
    from boxsched.store.postgres.session import PostgresSession

    assert isinstance(session, PostgresSession)
    for sequence in postgres_roles.all_sequences(session):
        session.ask(_ASK["jump_sequence"](sequence=sequence, by=JUMP))


def _of_file(found: DatabaseState, path: Path, session: SqliteSession) -> DatabaseState:
    files = (path, path.with_name(path.name + "-wal"))
    size = sum(file.stat().st_size for file in files if file.exists())
    return attrs.evolve(found, server=f"SQLite {session.version}", bytes=size)


def _of_server(found: DatabaseState, session: Session) -> DatabaseState:
    from boxsched.store.postgres.roles import my_rights
    from boxsched.store.postgres.session import PostgresSession

    assert isinstance(session, PostgresSession)
    ((version, size),) = session.ask(_ASK["server"]())
    tables = session.ask(_ASK["sizes"].rows([(table,) for table in TABLES]))
    return attrs.evolve(
        found,
        server=f"PostgreSQL {version}",
        bytes=size,
        tables=tuple(TableSize(*row) for row in tables),
        rights=my_rights(session),
        commit_times=session.ask(_ASK["commit_times"]()) == [("on",)],
        default_lock_key=_has_default_lock_key(found.cluster, session),
    )


def _has_default_lock_key(cluster: str, session: Session) -> bool | None:
    from boxsched.store.postgres.session import PostgresSession

    assert isinstance(session, PostgresSession)
    keys = LockKeys.of(DEFAULT_LOCK_KEY, cluster)
    held = session.ask(_ASK["lock_keys"](lock_keys=keys.lock_keys))
    return held == [(keys.lock_key,)] if held else None
