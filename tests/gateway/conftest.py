"""Fixtures of gateways with their engine: see ``harness``."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.gateway.harness import GatewayHarness


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[GatewayHarness]:
    async with GatewayHarness.open(tmp_path) as opened:
        yield opened
