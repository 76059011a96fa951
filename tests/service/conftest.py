"""Running services: two Boxes where jobs pass at once, no Boxes, or two Boxes that run commands."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.service.running_service import RunningService


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """Two Boxes; every job passes at once."""
    async with RunningService.open(tmp_path / "data") as opened:
        yield opened


@pytest.fixture
async def boxless_service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """No Boxes, so every workload waits."""
    async with RunningService.open(tmp_path / "data", boxes=0) as opened:
        yield opened


@pytest.fixture
async def executing_service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """Two Boxes that run the jobs' commands."""
    async with RunningService.open(
        tmp_path / "data", box_driver="process", stop_grace=0.5
    ) as opened:
        yield opened


@pytest.fixture
def mistakes(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Errors that boxsched logged; a test looks at their ``records``."""
    caplog.set_level(logging.ERROR, logger="boxsched")
    return caplog
