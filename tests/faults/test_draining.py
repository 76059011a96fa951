"""A worker that is drained under load, while the leader is killed (F17)."""

import asyncio
import json

import pytest

from tests.faults.cluster import Cluster
from tests.faults.run_length import REPEATS

pytestmark = pytest.mark.timeout(180 + 90 * REPEATS)

BUILDS = "projects/web/builds"
BUILDS_EACH_TIME = 40
JOB_SECONDS = 0.2


async def starts_after_drain(cluster: Cluster, worker: str) -> list[str]:
    """The workloads that were given a Box of the worker after it was drained the last time."""
    boxes = await cluster.sql("SELECT id FROM box WHERE worker = %s", int(worker))
    of_worker = {str(id_) for (id_,) in boxes}
    events = await cluster.sql(
        "SELECT type, data FROM event WHERE type IN"
        " ('worker.draining', 'worker.drain_ended', 'workload.started') ORDER BY shard, batch, n"
    )
    drained, found = False, []
    for type_, text in events:
        event = json.loads(text)
        if type_ == "workload.started":
            if drained and of_worker & {*event["boxes_taken"]}:
                found.append(event["workload"])
        elif event["worker"] == worker:
            drained = type_ == "worker.draining"
    return found


async def test_a_drained_worker_gets_no_job_and_loses_none_while_the_leader_is_killed(
    cluster: Cluster,
) -> None:
    await cluster.add_nodes(2, "--lost-after", "60")
    staying = await cluster.add_worker(3)
    leaving = await cluster.add_worker(3)
    await cluster.put_project(cluster.job_record.job("j", JOB_SECONDS))
    for turn in range(REPEATS):
        if not leaving.runs:
            await leaving.spawn()
        await cluster.until_worker(leaving, "connected")
        keys = [f"k{turn}-{n}" for n in range(BUILDS_EACH_TIME)]
        submitting = [
            asyncio.create_task(cluster.clients.submit(key, BUILDS, {"branch": key}))
            for key in keys
        ]
        ids = [await submitting[0]]
        await cluster.until_begun(str(ids[0]))
        leader = await cluster.leader()
        draining = asyncio.create_task(
            cluster.clients.ask("POST", f"workers/{leaving.name}/drain", {"note": "F17"})
        )
        await leader.kill()
        answer = await draining
        assert answer.status == 202, answer
        assert answer.json["drain"]["note"] == "F17"
        await leader.spawn()
        ids += await asyncio.gather(*submitting[1:])
        assert await leaving.ended() == 0, "it ends by itself, in good order"
        await cluster.until_idle()
        for id_ in ids:
            job = await cluster.until_job(str(id_), "finished")
            assert (job["result"], job["attempt"]) == ("passed", 1)
        assert await starts_after_drain(cluster, answer.json["id"]) == []
        resumed = await cluster.clients.ask("POST", f"workers/{leaving.name}/resume")
        assert resumed.status == 202, resumed
    assert staying.runs
    await cluster.is_whole()
