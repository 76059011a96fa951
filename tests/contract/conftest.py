"""The stores that the suite runs over. A side that comes is one more class here."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.store import Store, open_store
from tests.contract.world import Leader


class SqlitePlace:
    """A database of its own for one test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/boxsched.sqlite"
        self._opened: list[Store] = []

    async def open(self) -> Store:
        store = open_store(self.url, self.folder)
        await store.open()
        self._opened.append(store)
        return store

    async def reopen(self) -> Store:
        """Another process, as far as the database can tell."""
        await self.close()
        return await self.open()

    async def close(self) -> None:
        while self._opened:
            await self._opened.pop().close()


@pytest.fixture(params=[SqlitePlace])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[SqlitePlace]:
    place = request.param(tmp_path)
    yield place
    await place.close()


@pytest.fixture
async def store(place: SqlitePlace) -> Store:
    return await place.open()


@pytest.fixture
async def leader(store: Store) -> Leader:
    """Leads the shard, with four usable Boxes."""
    return await Leader(store).lead()
