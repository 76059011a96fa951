"""Workers whose proxy refuses WebSockets use long polling, with the same guarantees."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.protocol import wire
from boxsched.worker.remote.discovery import SystemNames
from tests.service.http_proxy import HttpProxy, Refusal
from tests.service.running_service import API, PATIENCE_SECONDS, RunningService
from tests.worker.nodes_and_workers import QUICK, TaskWorker, end_jobs


@pytest.fixture
async def boxless(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "service", boxes=0) as opened:
        yield opened


async def worker_token(service: RunningService) -> str:
    made = await service.call("POST", f"{API}/tokens", {"name": "builder", "role": "worker"})
    return str(made.json["token"])


@contextlib.asynccontextmanager
async def polling(
    folder: Path, refusal: Refusal, *services: RunningService, token: str = "", **options: Any
) -> AsyncIterator[tuple[HttpProxy, TaskWorker]]:
    """A proxy, and a worker that is connected through it."""
    token = token or await worker_token(services[0])
    async with HttpProxy.open([service.url for service in services], refusal) as proxy:
        names = SystemNames()
        worker = TaskWorker(folder, [proxy.url], names, token=lambda: token, **options)
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not worker.first:  # noqa: ASYNC110 (a list that the worker fills)
                    await asyncio.sleep(0.01)
            yield proxy, worker
        finally:
            worker.task.cancel()
            await asyncio.gather(worker.task, return_exceptions=True)
            await end_jobs(folder)


def polls(proxy: HttpProxy) -> int:
    return sum(wire.POLLS in request for request in proxy.requests)


@pytest.mark.parametrize("refusal", Refusal)
async def test_jobs_run_and_report_behind_a_proxy_without_websockets(
    refusal: Refusal, boxless: RunningService, tmp_path: Path
) -> None:
    pace = attrs.evolve(QUICK, connect=1.0)  # only a proxy that never answers takes so long
    async with polling(tmp_path / "worker", refusal, boxless, pace=pace) as (proxy, _):
        script = "for n in $(seq 2000); do echo line $n; done; exit 3"
        await boxless.project(jobs=[{"name": "test", "commands": [script]}])
        build = await boxless.build()
        ended = await boxless.until(build["id"], state="finished")
        [job] = ended["jobs"]
        assert (job["result"], job["exit_status"]) == ("failed", 3)
        log = await boxless.call("GET", f"{API}/jobs/{job['id']}/log")
        assert log.body.decode().splitlines()[-2000:] == [f"line {n}" for n in range(1, 2001)]
        assert polls(proxy) > 2


async def test_a_stop_reaches_a_polling_worker_at_once(
    boxless: RunningService, tmp_path: Path
) -> None:
    async with polling(tmp_path / "worker", Refusal.STRIP, boxless, stop_grace=0.5):
        await boxless.project(jobs=[{"name": "test", "commands": ["sleep 600"]}])
        build = await boxless.build()
        await boxless.until(build["id"], state="running")
        assert (await boxless.call("POST", f"{API}/workloads/{build['id']}/stop")).status == 202
        await boxless.until(build["id"], state="finished", result="stopped")


async def test_lost_answers_lose_no_message(boxless: RunningService, tmp_path: Path) -> None:
    async with polling(tmp_path / "worker", Refusal.STRIP, boxless) as (proxy, _):
        await boxless.project(jobs=[{"name": "test", "commands": ["echo it ran >> $HOME/../ran"]}])
        for number in range(5):
            proxy.lose = 2
            build = await boxless.build(branch=f"b{number}")
            await boxless.until(build["id"], state="finished", result="passed")
            assert proxy.lose == 0


async def test_a_polling_worker_finds_its_node_behind_a_balancer(
    boxless: RunningService, tmp_path: Path
) -> None:
    async with RunningService.open(tmp_path / "other", boxes=0) as other:
        token = await worker_token(boxless)
        stored = (await boxless.node.store.tokens())[-1]
        await other.node.store.put_token(stored)
        async with polling(tmp_path / "worker", Refusal.STRIP, boxless, other, token=token):
            here = [s for s in (boxless, other) if s.node.gateway.connected]
            assert len(here) == 1
            [service] = here
            await service.project(jobs=[{"name": "test", "commands": ["true"]}])
            build = await service.build()
            await service.until(build["id"], state="finished", result="passed")


async def test_a_worker_that_asks_no_more_is_disconnected(boxless: RunningService) -> None:
    token = await worker_token(boxless)
    opened = await boxless.call("POST", wire.POLLS, token=token)
    path = f"{wire.POLLS}/{opened.json['connection']}"
    hello = wire.encode(wire.Hello(wire.VERSION, "one", "one", ("default",), "{}", "boot"))
    assert (await boxless.call("POST", f"{path}?number=1", data=hello, token=token)).status == 204
    answer = await boxless.call("GET", f"{path}?after=0", token=token)
    welcome = wire.from_node.decode(answer.body.splitlines()[0])
    assert isinstance(welcome, wire.Welcome)
    again = await boxless.call("GET", f"{path}?after=0", token=token)  # the answer was lost
    assert again.body.startswith(answer.body)
    # the same request again changes nothing, a later one is refused
    assert (await boxless.call("POST", f"{path}?number=1", data=hello, token=token)).status == 204
    refused = await boxless.call("POST", f"{path}?number=9", data=b"", token=token)
    assert (refused.status, refused.error["field"]) == (409, "number")
    late = await boxless.call("GET", f"{path}?after=99", token=token)
    assert (late.status, late.error["field"]) == (409, "after")
    # another token, another node, no token at all
    stranger = await worker_token(boxless)
    assert (await boxless.call("GET", f"{path}?after=0", token=stranger)).status == 404
    elsewhere = await boxless.call("GET", f"{wire.POLLS}/other.{'ab' * 16}?after=0", token=token)
    assert elsewhere.status == 421
    assert (await boxless.call("GET", f"{path}?after=0", token=None)).status == 401
    assert (await boxless.call("GET", f"{path}?after=-1", token=token)).status == 422
    # the end
    assert (await boxless.call("DELETE", path, token=token)).status == 204
    assert (await boxless.call("GET", f"{path}?after=0", token=token)).status == 404


async def test_a_worker_that_closes_its_connection_is_away_at_once(
    boxless: RunningService, tmp_path: Path
) -> None:
    async with polling(tmp_path / "worker", Refusal.STRIP, boxless) as (_, worker):
        await worker.end()
        assert not boxless.node.gateway.connected
        [seen] = (await boxless.get("/workers"))["workers"]
        assert seen["name"] == "builder"


async def test_a_malformed_message_ends_a_polled_connection(boxless: RunningService) -> None:
    token = await worker_token(boxless)
    opened = await boxless.call("POST", wire.POLLS, token=token)
    path = f"{wire.POLLS}/{opened.json['connection']}"
    assert (await boxless.call("POST", f"{path}?number=1", data=b"{}", token=token)).status == 204
    ended = await boxless.call("GET", f"{path}?after=0", token=token)
    assert (ended.status, ended.error["code"]) == (409, "ended")
    assert ended.error["message"] == "1008 no_hello"


async def test_a_request_has_a_limit_of_messages(boxless: RunningService) -> None:
    token = await worker_token(boxless)
    opened = await boxless.call("POST", wire.POLLS, token=token)
    path = f"{wire.POLLS}/{opened.json['connection']}?number=1"
    refused = await boxless.call("POST", path, data=b"\n" * wire.MAX_POLL_BYTES, token=token)
    assert (refused.status, refused.error["code"]) == (422, "invalid")
    most = b"\n" * wire.MAX_POLL_MESSAGES
    assert (await boxless.call("POST", path, data=most, token=token)).status == 204


async def test_a_stopping_node_sends_polling_workers_away(tmp_path: Path) -> None:
    async with (
        RunningService.open(tmp_path / "service", boxes=0) as service,
        polling(tmp_path / "worker", Refusal.STRIP, service),
    ):
        assert service.node.gateway.connected
        await service.node.hang_up()
        assert not service.node.gateway.connected
