"""Servers for the tests of the bus."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus.redis_server import Server, served


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that the test may kill or freeze."""
    with served(tmp_path) as running:
        yield running


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """The URL of any server: that of BOXSCHED_TEST_REDIS, else a new one."""
    given = os.environ.get("BOXSCHED_TEST_REDIS")
    if given:
        return given
    own: Server = request.getfixturevalue("server")
    return own.url
