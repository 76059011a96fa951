"""Retired workers are forgotten with their Boxes once they have no job."""

import asyncio

from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import Connected, NewWorker
from tests.service.running_service import API, PATIENCE_SECONDS, RunningService, jobs


async def connect(service: RunningService, name: str, boxes: int) -> Connected:
    """Connect a worker as the gateway does."""
    new = NewWorker(name, name, "10.0.0.2", service.node.name, ("default",) * boxes)
    connected = await service.node.store.connect_worker(new)
    rows = tuple((row.id, row.ordinal, row.box_type) for row in connected.boxes)
    worker, number = connected.connection.worker, connected.connection.number
    await service.node.ask(SHARD, inbox.BoxesSet(worker, rows, service.node.name, number))
    await boxes_are(service, boxes + 2)
    return connected


async def boxes_are(service: RunningService, total: int, away: int = 0) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS), service.node.feed.subscribe(None) as events:
        counts = {"total": -1}
        while (counts["total"], counts.get("away", 0)) != (total, away):
            counts = (await service.get("/activity"))["boxes"]
            if (counts["total"], counts.get("away", 0)) != (total, away):
                await anext(aiter(events))


async def test_an_absent_worker_is_forgotten(service: RunningService) -> None:
    await service.project("web")
    connected = await connect(service, "builder-2", 2)
    runs = await service.build(jobs=jobs(4))
    await service.until(runs["id"], state="running")
    await service.node.store.disconnect_workers([connected.connection])
    await boxes_are(service, 4, away=2)
    refused = await service.call("DELETE", f"{API}/workers/builder-2")
    assert refused.status == 409
    assert "has jobs that may still run" in refused.error["message"]
    [one] = [w for w in (await service.get("/workers"))["workers"] if w["name"] == "builder-2"]
    assert (one["state"], one["seen_at"][-1]) == ("disconnected", "Z")


async def test_the_boxes_of_a_forgotten_worker_are_removed(service: RunningService) -> None:
    await service.project("web")
    connected = await connect(service, "builder-2", 2)
    await service.node.store.disconnect_workers([connected.connection])
    await boxes_are(service, 4, away=2)
    waits = await service.build(jobs=jobs(4))
    await service.until(waits["id"], state="queued")
    said = await service.get(f"/workloads/{waits['id']}/explanation")
    assert said["text"] == (
        "Needs 4 Boxes; 2 are on connected workers, 2 more on builder-2, not connected."
    )
    assert (await service.call("DELETE", f"{API}/workers/builder-2")).status == 204
    await boxes_are(service, 2)
    assert (await service.call("DELETE", f"{API}/workers/builder-2")).status == 404
    assert [one["worker_name"] for one in (await service.get("/boxes"))["boxes"]] == [
        "in-process"
    ] * 2
    said = await service.get(f"/workloads/{waits['id']}/explanation")
    assert said["reason"] == "no_such_boxes"
    again = await connect(service, "builder-2", 2)  # a new worker
    assert again.connection.worker != connected.connection.worker
    await service.until(waits["id"], state="running")
