"""A database as a command uses it: one transaction, from one thread, of either kind."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from boxsched.errors import Invalid
from boxsched.store import is_postgres, sqlite_path
from boxsched.store.blocks import Block, Row, Steps
from boxsched.store.errors import SchemaTooOld
from boxsched.store.moved import refuse_moved
from boxsched.store.schema import SCHEMA_VERSION, upgrades

T = TypeVar("T")


class Session(Protocol):
    dialect: str

    def run(self, steps: Steps[T]) -> T:
        """A procedure to its end."""

    def stream(self, block: Block) -> Iterable[Row]:
        """Row by row, however many there are."""

    def said(self) -> dict[str, str]:
        """What ``meta`` says; nothing where the database is empty."""


@contextlib.contextmanager
def opened(url: str, *, writing: bool = False, program: str = "boxsched db") -> Iterator[Session]:
    """The database of a URL, rolled back unless the body ends well.

    To read, all in one moment; to write a SQLite file, as the only process that uses it. Raises
    StoreAway where it cannot be had, RightMissing, StoreDamaged.
    """
    if is_postgres(url):
        from boxsched.store.postgres.session import (
            session,  # imports the library only when it is used
        )

        with session(url, writing=writing, program=program) as one:
            yield one
    else:
        from boxsched.store.sqlite.session import session as file_session

        path = sqlite_path(url)
        with file_session(path, writing=writing) as other:
            if writing:
                refuse_moved(path)
            yield other


def shown(url: str) -> str:
    """The URL for people: without its password."""
    if is_postgres(url):
        from boxsched.store.postgres.url import shown as postgres_shown

        return postgres_shown(url)
    return f"sqlite:///{sqlite_path(url)}"


def refuse_other_schema(session: Session) -> None:
    """Raises SchemaTooOld, SchemaTooNew; Invalid where there is no schema of ours at all."""
    said = session.said()
    if not said:
        raise Invalid(
            "the database holds nothing of boxsched yet: prepare it with boxsched db upgrade",
            "database",
        )
    if any(upgrades(said, session.dialect)):
        raise SchemaTooOld(
            f"the database has schema {said['schema']}, this boxsched {SCHEMA_VERSION}: "
            "run boxsched db upgrade first, as the owner of its tables"
        )
