"""Houses: a node without Boxes, where all waits; one whose jobs pass at once; one that runs."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.house import House


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """Two Boxes, on which jobs pass at once."""
    async with House.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def waiting(tmp_path: Path) -> AsyncIterator[House]:
    """No Boxes: what is submitted waits."""
    async with House.open(tmp_path / "data", boxes=0) as opened:
        yield opened


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[House]:
    """Two Boxes that run commands."""
    async with House.open(tmp_path / "data", box_driver="process", stop_grace=0.5) as opened:
        yield opened


@pytest.fixture
def mistakes(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What was logged as a mistake of ours; a test that uses it looks at ``records``."""
    caplog.set_level(logging.ERROR, logger="boxsched")
    return caplog
