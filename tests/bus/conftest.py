"""Servers for the tests of the bus."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.redis_server import Server, served


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One that the test may treat as it likes."""
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """Of any server: the one of BOXSCHED_TEST_REDIS, else one of its own."""
    given = os.environ.get("BOXSCHED_TEST_REDIS")
    if given:
        return given
    own: Server = request.getfixturevalue("server")
    return own.url
