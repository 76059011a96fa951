"""A database of its own for each test, on one real PostgreSQL."""

from collections.abc import Iterator

import pytest

from tests.contract.postgres_server import database, provided


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with provided() as url:
        yield url


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with database(postgres) as url:
        yield url
