"""``POST /jobs/{id}/resolve``: how and when a person may resolve a job."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.client import Client
from boxsched.errors import Conflict
from boxsched.model import parse_job
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Connected, NewWorker
from tests.service.running_service import API, PATIENCE_SECONDS, Answer, RunningService, job, stop


@attrs.frozen
class AbsentWorker:
    """A node without Boxes, and an absent worker with one Box, which runs a deploy."""

    service: RunningService
    worker: Connected
    deploy: Any

    @property
    def job(self) -> str:
        return str(self.deploy["jobs"][0]["id"])

    async def resolve(self, body: object, job: str | None = None, **headers: str) -> Answer:
        path = f"{API}/jobs/{job or self.job}/resolve"
        return await self.service.call("POST", path, body, headers=headers)


async def connect(service: RunningService, name: str) -> Connected:
    new = NewWorker(name, name, "10.0.0.2", service.node.name, ("default",))
    connected = await service.node.store.connect_worker(new)
    rows = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
    worker, number = connected.connection.worker, connected.connection.number
    await service.node.ask(SHARD, inbox.BoxesSet(worker, rows, service.node.name, number))
    return connected


async def away(service: RunningService, worker: Connected) -> None:
    await service.node.store.disconnect_workers([worker.connection])
    async with asyncio.timeout(PATIENCE_SECONDS), service.node.feed.subscribe(None) as events:
        while (await service.get("/activity"))["boxes"].get("away") != 1:
            await anext(aiter(events))


@pytest.fixture
async def absent(tmp_path: Path) -> AsyncIterator[AbsentWorker]:
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await service.project("web", servers={"production": {"jobs": [job("ship")]}})
        worker = await connect(service, "builder-2")
        made = await service.deploy("production")
        await service.until(made["id"], state="running")
        yield AbsentWorker(service, worker, made)


async def test_a_lane_is_opened_and_the_worker_forgotten(absent: AbsentWorker) -> None:
    service = absent.service
    waits = await service.deploy("production")
    await away(service, absent.worker)
    assert (await stop(service, absent.deploy["id"])).status == 202
    for id_ in (absent.deploy["id"], waits["id"]):
        said = await service.get(f"/workloads/{id_}/explanation")
        assert f"`boxsched resolve {absent.job} passed|failed`" in said["text"]
        assert "builder-2" in said["text"]
    refused = await service.call("DELETE", f"{API}/workers/builder-2")
    assert refused.status == 409 and "boxsched resolve" in refused.error["message"]
    answer = await absent.resolve({"result": "failed", "note": "it burned down"})
    assert answer.status == 202
    assert (answer.json["state"], answer.json["result"]) == ("finished", "stopped")
    assert answer.json["reason"] == "stopped by admin"
    assert answer.json["jobs"][0]["reason"] == "resolved as failed by admin: it burned down"
    assert (await service.call("DELETE", f"{API}/workers/builder-2")).status == 204
    await connect(service, "builder-3")
    await service.until(waits["id"], state="running")


async def test_again_starts_another_attempt(absent: AbsentWorker) -> None:
    await away(absent.service, absent.worker)
    answer = await absent.resolve({"result": "again"})
    assert answer.status == 202 and answer.json["state"] == "running"
    assert answer.json["jobs"][0]["state"] == "unknown"
    await connect(absent.service, "builder-3")
    found = await absent.service.until(absent.deploy["id"], state="running")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while found["jobs"][0]["attempt"] != 2:
            found = await absent.service.look(absent.deploy["id"])
    assert found["jobs"][0]["state"] == "assigned"


async def test_resolving_a_job_with_a_known_state_gets_409(absent: AbsentWorker) -> None:
    service, body = absent.service, {"result": "failed"}
    connected = await absent.resolve(body)
    assert (connected.status, connected.error["code"]) == (409, "conflict")
    assert "connected" in connected.error["message"]
    waits = await service.deploy("production")
    waiting = await absent.resolve(body, waits["jobs"][0]["id"])
    assert waiting.status == 409 and "not begun" in waiting.error["message"]
    await away(service, absent.worker)
    await stop(service, absent.deploy["id"])
    again = await absent.resolve({"result": "again"})
    assert again.status == 409 and "being stopped" in again.error["message"]
    assert (await absent.resolve(body)).status == 202
    ended = await absent.resolve(body)
    assert ended.status == 409 and ended.error["message"] == "the job has finished: failed"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "result"),
        ({"result": "stopped"}, 422, "result"),
        ({"result": "failed", "note": "n" * 501}, 422, "note"),
        ({"result": "failed", "note": "a\u001bb"}, 422, "note"),
        ({"result": "failed", "why": "x"}, 422, "why"),
    ],
)
async def test_bad_input_names_the_field(
    absent: AbsentWorker, body: object, status: int, field: str
) -> None:
    answer = await absent.resolve(body)
    assert (answer.status, answer.error["field"]) == (status, field)


@pytest.mark.parametrize("id_", ["w99-1", "w1-2", "x", "w1"])
async def test_an_unknown_job_gets_404(absent: AbsentWorker, id_: str) -> None:
    assert (await absent.resolve({"result": "failed"}, id_)).status == 404


async def test_a_resolution_can_be_repeated_with_its_key(absent: AbsentWorker) -> None:
    await away(absent.service, absent.worker)
    body = {"result": "again", "note": "lost"}
    key = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(absent.resolve(body, **key) for _ in range(5)))
    assert {answer.status for answer in answers} == {202}
    later = await absent.resolve(body, **key)
    assert later.status == 202
    assert (await absent.resolve({"result": "failed"}, **key)).status == 409
    found = parse_job(absent.job)
    assert found is not None
    events = await absent.service.node.store.events_after(SHARD, 0, 0, 1_000)
    said = [json.loads(one.data) for one in events if one.type == "job.resolved"]
    assert [(one["by"], one["note"], one["result"]) for one in said] == [("admin", "lost", "again")]


async def test_the_second_of_two_simultaneous_requests_is_refused_as_too_late(
    absent: AbsentWorker,
) -> None:
    await away(absent.service, absent.worker)
    results = ["passed", "failed"] * 3
    said = await asyncio.gather(*(absent.resolve({"result": result}) for result in results))
    (ended,) = (await absent.service.look(absent.deploy["id"]))["jobs"]
    for result, answer in zip(results, said, strict=True):
        if answer.status == 202:
            assert (result, answer.json["result"]) == (ended["result"], ended["result"])
        else:
            refusal = f"the job has finished: {ended['result']}"
            assert (answer.status, answer.error["message"]) == (409, refusal)
    assert 202 in {answer.status for answer in said}
    assert 409 in {answer.status for answer in said}


async def test_a_result_for_an_earlier_attempt_is_refused_with_a_reason(
    absent: AbsentWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await away(absent.service, absent.worker)
    ask = absent.service.node.ask

    async def behind_another(*asked: Any) -> None:
        monkeypatch.undo()
        assert (await absent.resolve({"result": "again"})).status == 202
        await connect(absent.service, "builder-3")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (await absent.service.look(absent.deploy["id"]))["jobs"][0]["attempt"] != 2:
                pass
        await ask(*asked)

    monkeypatch.setattr(absent.service.node, "ask", behind_another)
    answer = await absent.resolve({"result": "passed"})
    assert answer.status == 409
    assert "another attempt" in answer.error["message"]


async def test_the_name_of_the_token_is_recorded(absent: AbsentWorker) -> None:
    made = await absent.service.call(
        "POST", f"{API}/tokens", {"role": "admin", "name": "Ada's laptop"}
    )
    token = made.json["token"]
    await away(absent.service, absent.worker)
    answer = await absent.service.call(
        "POST", f"{API}/jobs/{absent.job}/resolve", {"result": "failed"}, token=token
    )
    assert answer.json["reason"] == "job ship failed: resolved as failed by Ada's laptop"


async def test_the_python_client_resolves(absent: AbsentWorker) -> None:
    await away(absent.service, absent.worker)
    async with Client(absent.service.url, absent.service.token) as client:
        done = await client.resolve(absent.job, "passed", note="seen by hand")
        assert done.passed and done.reason is None
        assert done.jobs[0].reason == "resolved as passed by admin: seen by hand"
        with pytest.raises(Conflict, match="has finished: passed"):
            await client.resolve(absent.job, "failed")
