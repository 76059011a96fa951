"""The schema's versions: numbered texts, of which each brings a database from the one before.

``schema_0001.sql`` is for every database, ``schema_0001_sqlite.sql`` what one of them adds. A text
that was released is never changed.
"""

from collections.abc import Iterator

from boxsched.store.blocks import sql_text
from boxsched.store.errors import SchemaTooNew

SCHEMA_VERSION = 1


def upgrades(version: int, dialect: str) -> Iterator[str]:
    """The texts that bring a database of that version (0 = empty) up to date, in order.

    Raises SchemaTooNew where the database is ahead of this program.
    """
    if version > SCHEMA_VERSION:
        raise SchemaTooNew(
            f"the database has schema {version}, this boxsched knows {SCHEMA_VERSION}: "
            "a newer boxsched has upgraded it"
        )
    for number in range(version + 1, SCHEMA_VERSION + 1):
        yield sql_text(f"schema_{number:04}.sql")
        yield sql_text(f"schema_{number:04}_{dialect}.sql")
