"""Artifacts of a cluster in a bucket, through the ends of a node and a worker."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from boxsched.blobs.bucket import BucketPlace
from boxsched.clock import Clock
from tests.contract.s3_server import CREDENTIALS, S3Server, served
from tests.faults.cluster import Cluster
from tests.faults.test_artifacts import BIG, BIG_BYTES, BUILDS, DEPLOYS, content, job, run
from tests.faults.waiting import until_true


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3Server]:
    with served(tmp_path) as server:
        yield server


async def test_a_large_artifact_arrives_in_the_bucket_although_all_nodes_die_meanwhile(
    cluster: Cluster, s3: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    bucket = s3.bucket("files")
    await cluster.add_nodes(2, "--log-store", "s3://files/ci", "--log-store-endpoint", s3.url)
    worker = await cluster.add_worker(1)
    ship = job("ship", "sha256sum < big")
    await cluster.put_project(
        job("make", f"{BIG} > big", artifacts=["big"]), servers={"production": {"jobs": [ship]}}
    )
    build = await cluster.clients.submit("b", BUILDS, {"branch": "main"})
    assert build is not None
    await until_true(lambda: bool(bucket.uploads()), "a part of the file is there")
    for node in cluster.nodes:
        await node.kill()
    await worker.kill()
    assert bucket.keys("ci/files/") == []
    for node in cluster.nodes:
        await node.start()
    await worker.spawn()
    built = await cluster.until_job(build, "finished")
    assert (built["result"], built["attempt"]) == ("passed", 1), built
    (found,) = (await cluster.clients.get(f"jobs/{built['id']}/artifacts"))["artifacts"]
    for node in cluster.nodes:
        data = await content(node, built["id"], "big")
        assert (len(data), hashlib.sha256(data).hexdigest()) == (BIG_BYTES, found["sha256"])
    shipped = await run(cluster, "d", DEPLOYS, server="production", build=build)
    assert found["sha256"] in await cluster.clients.get(f"jobs/{shipped['id']}/log")
    assert (len(bucket.keys("ci/files/")), bucket.keys("ci/uploads/")) == (1, [])
    place = BucketPlace("files", "ci/", s3.url)
    await place.open(bucket.get("ci/belongs-to").decode())
    await place.remove_old_uploads(Clock().now() + 3600)
    await place.close()
    assert bucket.uploads() == []
    await cluster.is_whole()
