"""Copies of one worker, such as those of a cloned disk, that connect to different nodes."""

import asyncio
import shutil
from pathlib import Path

from boxsched.protocol.shards import SHARD
from tests.service.running_service import PATIENCE_SECONDS, RunningService
from tests.service.test_long_polling import worker_token
from tests.service.test_ssh import two_nodes, working
from tests.service.test_tokens import server  # noqa: F401 (a fixture)


async def connected(folder: Path, service: RunningService, token: str) -> None:
    """Return when a worker with this folder has connected."""
    async with working(folder, service.url, token):
        pass


async def until_refused(service: RunningService, times: int) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while service.node.gateway.figures.refused["in_use"] < times:  # noqa: ASYNC110 (a figure)
            await asyncio.sleep(0.01)


async def refusals(service: RunningService) -> list[bytes]:
    """Return what the history says of refused workers, as soon as there is one."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            events = await service.node.store.events_after(SHARD, 0, 0, 1_000)
            if found := [event.data for event in events if event.type == "worker.refused"]:
                return found
            await asyncio.sleep(0.01)


async def test_a_copy_at_another_node_is_refused_until_the_first_one_ends(
    server: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    async with two_nodes(server, tmp_path) as (one, two):
        token = await worker_token(one)
        async with working(tmp_path / "w", one.url, token) as first:
            (tmp_path / "copy").mkdir(mode=0o700)
            for name in ("identity", "cluster"):
                shutil.copy(tmp_path / "w" / name, tmp_path / "copy")
            copying = asyncio.create_task(connected(tmp_path / "copy", two, token))
            await until_refused(two, 3)
            [said] = await refusals(one)
            assert b"another process is connected as this worker" in said
            build = await one.build()
            assert (await one.until(build["id"], state="finished"))["result"] == "passed"
            assert one.node.gateway.figures.connects == 1, "nobody took its connection"
            assert not two.node.gateway.connected and not copying.done()
            await first.end()
            await copying
        assert two.node.gateway.figures.connects == 1
