"""The databases that the suite runs over: SQLite and PostgreSQL."""

import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg2
import pytest

from boxsched.store import Store, open_store
from tests.contract.postgres_server import database, execute, provided
from tests.contract.store_data import Leader


class DatabaseUnderTest:
    """A database of its own for one test."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self._opened: list[Store] = []

    async def open(self, folder: str = "") -> Store:
        """``folder``: another data folder, for a second process at the same time."""
        store = open_store(self.url, self.folder / folder)
        await store.open()
        self._opened.append(store)
        return store

    async def reopen(self) -> Store:
        """Close and open again: another process, as far as the database can tell."""
        await self.close()
        return await self.open()

    async def close(self) -> None:
        while self._opened:
            await self._opened.pop().close()

    def plant(self, statement: str) -> None:
        """Write rows that the schema would refuse."""
        raise NotImplementedError


class SqliteUnderTest(DatabaseUnderTest):
    def plant(self, statement: str) -> None:
        raw = sqlite3.connect(self.folder / "boxsched.sqlite", isolation_level=None)
        raw.execute("PRAGMA ignore_check_constraints = ON")
        raw.executescript(statement)
        raw.close()


class PostgresUnderTest(DatabaseUnderTest):
    def plant(self, statement: str) -> None:
        execute(self.url, f"{_WITHOUT_CHECKS}; {statement}")


_WITHOUT_CHECKS = """
SET session_replication_role = replica;
DO $$
DECLARE found record;
BEGIN
    FOR found IN SELECT conrelid::regclass AS place, conname FROM pg_constraint
                  WHERE contype = 'c' AND connamespace = 'public'::regnamespace
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.place, found.conname);
    END LOOP;
END
$$
"""


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server for test databases; the test is skipped if there is none."""
    with provided() as url:
        yield url


@pytest.fixture
async def postgres_db(postgres: str, tmp_path: Path) -> AsyncIterator[PostgresUnderTest]:
    with database(postgres) as url:
        db = PostgresUnderTest(tmp_path, url)
        yield db
        await db.close()


@pytest.fixture
def other(postgres_db: PostgresUnderTest) -> Iterator[psycopg2.extensions.connection]:
    """Another program's session; it begins a transaction with its first statement."""
    connection = psycopg2.connect(postgres_db.url)
    yield connection
    connection.close()


@pytest.fixture
async def sqlite_db(tmp_path: Path) -> AsyncIterator[SqliteUnderTest]:
    db = SqliteUnderTest(tmp_path, f"sqlite:///{tmp_path}/boxsched.sqlite")
    yield db
    await db.close()


@pytest.fixture(params=["sqlite", "postgres"])
def db(request: pytest.FixtureRequest) -> DatabaseUnderTest:
    found: DatabaseUnderTest = request.getfixturevalue(f"{request.param}_db")
    return found


@pytest.fixture
async def store(db: DatabaseUnderTest) -> Store:
    return await db.open()


@pytest.fixture
async def leader(store: Store) -> Leader:
    """A leader of the shard, with four usable Boxes."""
    return await Leader(store).lead()
