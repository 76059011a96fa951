"""The schema's versions: numbered SQL texts; each upgrades a database from the version before.

``schema_0001.sql`` is for every database, ``schema_0001_sqlite.sql`` what one of them adds. A text
that was released is never changed.

Programs of two versions may use one database, so that nodes can be upgraded one by one. The newest
says in ``meta`` which schema it has (``schema``), and the least that a program has to know to go
on with it (``oldest``): an upgrade that keeps the meaning of the statements of the version before,
by columns with defaults, leaves that one in.
"""

from collections.abc import Iterator, Mapping

from boxsched.store.blocks import sql_text
from boxsched.store.errors import SchemaTooNew

SCHEMA_VERSION = 9
OLDEST_PROGRAM = 1  # the oldest program version whose statements still have the same meaning
assert OLDEST_PROGRAM <= SCHEMA_VERSION


def upgrades(said: Mapping[str, str], dialect: str) -> Iterator[str]:
    """Return the texts, in order, that upgrade a database with these rows of ``meta``.

    ``said`` is empty for an empty database. Returns nothing if the database is newer and supports
    this program; otherwise raises SchemaTooNew.
    """
    version = int(said.get("schema", "0"))
    oldest = int(said.get("oldest", version))
    if oldest > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the database has schema {version}, which requires a boxsched that knows {oldest}; "
            f"this one knows {SCHEMA_VERSION}: a newer boxsched has upgraded it"
        )
    for number in range(version + 1, SCHEMA_VERSION + 1):
        yield sql_text(f"schema_{number:04}.sql")
        yield sql_text(f"schema_{number:04}_{dialect}.sql")


def facts() -> dict[str, str]:
    """Return the rows of ``meta`` after an upgrade."""
    return {"schema": str(SCHEMA_VERSION), "oldest": str(OLDEST_PROGRAM)}
