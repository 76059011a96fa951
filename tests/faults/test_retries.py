"""A job that is tried again in its Box, while its node and its worker's agent are killed (F11)."""

import asyncio
import json
import os
import subprocess
import sys

import pytest

from tests.faults.cluster import Cluster
from tests.faults.run_length import REPEATS
from tests.faults.waiting import until, until_true

pytestmark = pytest.mark.timeout(180 + 90 * REPEATS)

# The first attempt fails; the second goes on until the file exists.
_FAILS_ONCE = """
if ((BOXSCHED_ATTEMPT == 1)); then mark end; exit 7; fi
until [ -e {gate} ]; do read -rt 0.05 -u 9 || :; mark tick; echo "tick $((i++))"; done
"""


@pytest.mark.parametrize("killed", ["before", "after"])
async def test_a_flaky_job_passes_in_its_box_though_node_and_agent_are_killed(
    cluster: Cluster, killed: str
) -> None:
    """``before``: in the first attempt, whose failure nobody hears at first; ``after``: in the
    second."""
    record = cluster.job_record
    first, second = cluster.folder / "first", cluster.folder / "second"
    await cluster.add_nodes(2, "--lost-after", "120")
    worker = await cluster.add_worker(2)
    flaky = record.job("flaky", 0.0, again=0.0, gate=first, then=_FAILS_ONCE.format(gate=second))
    await cluster.put_project({**flaky, "retry": {"exit": {"7": 1}}})
    build = await cluster.clients.submit("k", "projects/web/builds", {"branch": "b"})
    assert build is not None
    await cluster.until_begun(build)
    before = await cluster.until_job(build, "running")
    if killed == "before":
        await kill_node_and_agent(cluster)
        first.touch()
        await until_true(lambda: record.marks("end"), "the first attempt has ended")
        await worker.spawn()
    else:
        first.touch()
    await cluster.until_begun(build, times=2)
    if killed == "after":
        await kill_node_and_agent(cluster)
        await cluster.until_ticks(build, 0.5)
        second.touch()
        await worker.spawn()
    else:
        second.touch()
    job = await cluster.until_job(build, "finished")
    assert (job["result"], job["attempt"], job["retries"], job["flaky"]) == ("passed", 2, 1, True)
    assert job["box"] == before["box"]
    starts = record.marks("start")
    assert [one.attempt for one in starts] == [1, 2]
    assert starts[0].token < starts[1].token
    whole = await cluster.clients.get(f"workloads/{build}")
    assert (whole["result"], whole["flaky"]) == ("passed", True)
    lines = {
        attempt: sum(one.attempt == attempt for one in record.marks("tick")) for attempt in (1, 2)
    }
    for attempt, count in lines.items():
        log = await cluster.clients.get(f"jobs/{job['id']}/log?attempt={attempt}")
        assert log == "".join(f"tick {number}\n" for number in range(count))
    assert await asyncio.to_thread(flaky_in_list, cluster) == {build: True}
    types = await cluster.sql("SELECT type FROM event WHERE job IS NOT NULL ORDER BY batch, n")
    told = [type_ for (type_,) in types if type_ not in ("job.unknown", "job.seen_again")]
    assert told == ["job.started", "job.retried", "job.started", "job.finished"]
    await cluster.is_whole()


async def kill_node_and_agent(cluster: Cluster) -> None:
    """kill -9 both; the node is the one to which the worker is connected."""
    (worker,) = cluster.workers
    ((name,),) = await cluster.sql("SELECT node FROM worker WHERE name = 'worker-1'")

    async def look() -> list[str]:
        nodes = (await cluster.clients.get("nodes"))["nodes"]
        return [one["url"] for one in nodes if one["name"] == name]

    (url,) = await until(look, "the worker's node is listed")
    (node,) = (one for one in cluster.nodes if one.url == url)
    await worker.kill()
    await node.kill()


def flaky_in_list(cluster: Cluster) -> dict[str, bool]:
    """What `boxsched list` says, by workload."""
    node = next(one for one in cluster.nodes if one.runs)
    done = subprocess.run(
        [sys.executable, "-m", "boxsched", "list", "--json", "--url", node.url],
        env={**os.environ, "BOXSCHED_TOKEN": node.token},
        capture_output=True,
        check=True,
        timeout=60,
    )
    return {one["id"]: one["flaky"] for one in json.loads(done.stdout)["workloads"]}
