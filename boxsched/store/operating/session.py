"""A database session for commands: one transaction, one thread, on either database."""

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
        """Run a procedure and return its result."""

    def stream(self, block: Block) -> Iterable[Row]:
        """Yield the rows one by one, for results of any size."""

    def said(self) -> dict[str, str]:
        """Return the content of ``meta``; empty if the database is empty."""


@contextlib.contextmanager
def opened(url: str, *, writing: bool = False, program: str = "boxsched db") -> Iterator[Session]:
    """Open the database of a URL in one transaction, which is rolled back if the body raises.

    Reads see one moment. To write a SQLite file, no other process may use it. Raises StoreAway if
    the database is not available, RightMissing, StoreDamaged.
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
    """Return the URL without its password, for people."""
    if is_postgres(url):
        from boxsched.store.postgres.url import shown as postgres_shown

        return postgres_shown(url)
    return f"sqlite:///{sqlite_path(url)}"


def refuse_other_schema(session: Session) -> None:
    """Raise SchemaTooOld or SchemaTooNew; Invalid if the database has no boxsched schema."""
    said = session.said()
    if not said:
        raise Invalid(
            "the database is not prepared for boxsched yet: run boxsched db upgrade",
            "database",
        )
    if any(upgrades(said, session.dialect)):
        raise SchemaTooOld(
            f"the database has schema {said['schema']}, this boxsched {SCHEMA_VERSION}: "
            "run boxsched db upgrade first, as the owner of its tables"
        )
