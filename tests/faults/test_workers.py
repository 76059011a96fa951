"""Workers that are cut off, forgotten, or return all at once (F14, F16, F31)."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.faults.cluster import Cluster
from tests.faults.conftest import Figure
from tests.faults.deploy_target import DeployTarget, deploy_target
from tests.faults.fake_workers import FakeWorker
from tests.faults.run_length import AT_LENGTH, REPEATS
from tests.faults.waiting import until, until_true

pytestmark = pytest.mark.timeout(180 + 90 * REPEATS)

BUILDS = "projects/web/builds"
DEPLOYS = "projects/web/deploys"
LOST_AFTER_SECONDS = 6.0
CUT_SECONDS = 2.0  # less than that
WORKERS = 500 if AT_LENGTH else 60
WORKER_JOBS = 20


@pytest.fixture
async def target() -> AsyncIterator[DeployTarget]:
    async with deploy_target() as target:
        yield target


async def asked(cluster: Cluster, key: str, path: str, **body: object) -> str:
    id_ = await cluster.clients.submit(key, path, body)
    assert id_ is not None
    return id_


async def test_a_jobs_log_is_complete_after_its_worker_was_cut_off_for_a_moment(
    cluster: Cluster,
) -> None:
    """F14, shorter than its lease: its job is unaffected."""
    await cluster.add_nodes(2, "--lost-after", "30")
    worker = await cluster.add_worker(1)
    job_record = cluster.job_record
    for n in range(REPEATS):
        gate = cluster.folder / f"gate-{n}"
        await cluster.put_project(job_record.job("j", 0.0, gate=gate))
        build = await asked(cluster, f"k{n}", BUILDS, branch="b")
        await cluster.until_begun(build)
        await worker.cut()
        await cluster.until_ticks(build, CUT_SECONDS)
        await worker.heal()
        gate.touch()
        job = await cluster.until_job(build, "finished")
        assert (job["result"], job["attempt"]) == ("passed", 1)
        assert await cluster.clients.get(f"jobs/{job['id']}/log") == job_record.log_of(build)
    await cluster.is_whole()


async def test_a_build_of_a_worker_that_is_cut_off_for_too_long_moves_and_a_deploy_stays(
    cluster: Cluster, target: DeployTarget, figure: Figure
) -> None:
    """F14, longer than its lease: its build's job ends there before it starts elsewhere; its deploy
    runs on as unknown, and its result counts when the worker returns."""
    job_record, gate = cluster.job_record, cluster.folder / "gate"
    await cluster.add_nodes(2, "--lost-after", str(LOST_AFTER_SECONDS))
    await cluster.put_project(
        job_record.job("j", 0.0, gate=cluster.folder / "never", again=1.0),
        servers={"s": {"jobs": [job_record.job("d", 0.0, gate=gate, then=target.command)]}},
    )
    away = await cluster.add_worker(2)
    build = await asked(cluster, "build", BUILDS, branch="b")
    deploy = await asked(cluster, "deploy", DEPLOYS, server="s")
    await cluster.until_begun(build)
    await cluster.until_begun(deploy)
    here = await cluster.add_worker(1)
    cut = time.monotonic()
    await away.cut()
    await cluster.until_job(deploy, "unknown")
    await cluster.until_begun(build, times=2)
    figure("F14 cut to the next attempt, s", time.monotonic() - cut)
    job = await cluster.until_job(build, "finished")
    assert (job["result"], job["attempt"]) == ("passed", 2)
    gate.touch()
    await until_true(
        lambda: len(target.effects) == 1, "the deploy does its work while it is unknown"
    )
    await cluster.until_job(deploy, "unknown")
    await away.heal()
    job = await cluster.until_job(deploy, "finished")
    assert (job["result"], job["attempt"]) == ("passed", 1)
    assert target.refused == []
    assert here.runs and away.runs
    await cluster.is_whole()


async def test_a_ghost_of_a_deploy_is_listed_and_one_of_a_build_is_ended(
    cluster: Cluster,
) -> None:
    """F16: a person resolves what a worker that is cut off was running. Its agent is killed and
    started anew, so it knows only from its folder what it holds."""
    job_record = cluster.job_record
    never = cluster.folder / "never"
    await cluster.add_nodes(2, "--lost-after", "60")
    await cluster.put_project(
        job_record.job("j", 0.0, gate=never),
        servers={"s": {"jobs": [job_record.job("d", 0.0, gate=never)]}},
    )
    away = await cluster.add_worker(2)
    deploy = await asked(cluster, "deploy", DEPLOYS, server="s")
    build = await asked(cluster, "build", BUILDS, branch="b")
    for workload in (deploy, build):
        await cluster.until_begun(workload)
    await away.cut()
    for workload in (deploy, build):
        job = await cluster.until_job(workload, "unknown")
        reply = await cluster.clients.ask("POST", f"jobs/{job['id']}/resolve", {"result": "failed"})
        assert reply.status == 202, reply
    await away.kill()
    await away.heal()
    await away.spawn()
    (pid,) = {mark.pid for mark in job_record.marks("start") if mark.workload == build}
    await until_true(lambda: not Path(f"/proc/{pid}").exists(), "the build is ended")
    ghost = await until(lambda: of_kind(cluster, "deploy"), "the deploy is listed")
    assert (ghost["workload"], ghost["state"], ghost["attempt"]) == (deploy, "running", 1)
    assert ghost["refusal"] == "its job has finished: failed"
    reply = await cluster.clients.ask("POST", f"ghosts/{ghost['id']}/restore", {})
    assert reply.status == 409, reply
    await cluster.until_ticks(deploy, CUT_SECONDS)  # it runs on, as nobody has decided
    (pid,) = {mark.pid for mark in job_record.marks("start") if mark.workload == deploy}
    reply = await cluster.clients.ask("POST", f"ghosts/{ghost['id']}/kill", {})
    assert reply.status == 202, reply
    await until_true(lambda: not Path(f"/proc/{pid}").exists(), "the deploy is ended")

    async def none() -> bool:
        return not (await cluster.clients.get("ghosts"))["ghosts"]

    await until(none, "no ghost is listed")
    assert await cluster.sql("SELECT count(*) FROM event WHERE type = 'ghost.killed'") == [(1,)]
    await cluster.is_whole()


async def test_a_ghost_that_a_person_restores_passes_with_its_whole_log(
    cluster: Cluster, target: DeployTarget
) -> None:
    """F16, V22: "again" was said of a deploy whose worker is back: nothing begins twice there."""
    job_record, gate = cluster.job_record, cluster.folder / "gate"
    await cluster.add_nodes(2, "--lost-after", str(LOST_AFTER_SECONDS))
    await cluster.put_project(
        servers={"s": {"jobs": [job_record.job("d", 0.0, gate=gate, then=target.command)]}}
    )
    away = await cluster.add_worker(1)
    deploy = await asked(cluster, "deploy", DEPLOYS, server="s")
    await cluster.until_begun(deploy)
    await away.cut()
    job = await cluster.until_job(deploy, "unknown")
    await cluster.clients.ask("POST", f"jobs/{job['id']}/resolve", {"result": "again"})
    await away.kill()
    await away.heal()
    await away.spawn()
    ghost = await until(lambda: of_kind(cluster, "deploy"), "a ghost is listed")
    given = await cluster.until_job(deploy, "assigned")
    assert given["attempt"] == 2 and ghost["refusal"] is None
    reply = await cluster.clients.ask("POST", f"ghosts/{ghost['id']}/restore", {})
    assert reply.status == 202, reply
    assert (await cluster.until_job(deploy, "running"))["attempt"] == 1
    gate.touch()
    done = await cluster.until_job(deploy, "finished")
    assert (done["result"], done["attempt"]) == ("passed", 1)
    assert len(target.effects) == 1
    assert await cluster.clients.get(f"jobs/{job['id']}/log") == job_record.log_of(deploy)
    ((by,),) = await cluster.sql(
        "SELECT CAST(data AS json) ->> 'by' FROM event WHERE type = 'job.restored'"
    )
    assert by
    await cluster.is_whole()


async def of_kind(cluster: Cluster, kind: str) -> Any:
    """Return the ghost of such a workload, if there is one."""
    found = (await cluster.clients.get("ghosts"))["ghosts"]
    return next((one for one in found if one["kind"] == kind), None)


async def test_a_job_that_was_stopped_while_its_worker_was_away_does_not_continue(
    cluster: Cluster,
) -> None:
    """F16: the worker does not continue a job that nobody wants any more."""
    await cluster.add_nodes(1)
    worker = await cluster.add_worker(1, "--stop-grace", "1")
    await cluster.put_project(cluster.job_record.job("j", 120.0))
    build = await asked(cluster, "k", BUILDS, branch="b")
    await cluster.until_begun(build)
    await worker.cut()
    await cluster.clients.ask("POST", f"workloads/{build}/stop")
    await worker.kill()
    await worker.heal()
    await worker.spawn()
    job = await cluster.until_job(build, "finished")
    assert job["result"] == "stopped"
    ticks = len(cluster.job_record.marks("tick"))
    again = await asked(cluster, "k2", BUILDS, branch="b2", jobs=[cluster.job_record.job("j", 0.1)])
    await cluster.until_job(again, "finished")
    marks = cluster.job_record.marks("tick")[ticks:]
    assert {mark.workload for mark in marks} == {again}, "it went on after its end was known"
    await cluster.is_whole()


async def test_many_workers_reconnect_at_once_without_losing_a_job(
    cluster: Cluster, figure: Figure
) -> None:
    """F31: the node of all their connections dies; none of their jobs is given again."""
    await cluster.add_nodes(2)
    await cluster.put_project({"name": "j", "commands": ["true"]})
    token = await cluster.worker_token()
    urls = [node.url for node in cluster.nodes]
    workers = [FakeWorker(f"fake-{n}", urls, token, random.Random(n)) for n in range(WORKERS)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        running = [asyncio.create_task(fake.run(http)) for fake in workers]
        await until_true(lambda: all(fake.connected for fake in workers), "all are connected")
        builds = [await asked(cluster, f"k{n}", BUILDS, branch=f"b{n}") for n in range(WORKER_JOBS)]
        await until_true(
            lambda: sum(len(f.holds) for f in workers) == WORKER_JOBS, "all jobs are held"
        )
        node = cluster.nodes[0]
        began = time.monotonic()
        await node.kill()
        await until_true(
            lambda: sum(f.connected for f in workers) < WORKERS, "those connected to it know it"
        )
        await node.start()
        await until_true(lambda: all(fake.connected for fake in workers), "all are connected again")
        figure(f"F31 kill and restart to all {WORKERS} back, s", time.monotonic() - began)

        async def look() -> bool:
            shown = (await cluster.clients.get("workers"))["workers"]
            return sum(1 for w in shown if w["state"] == "connected") >= WORKERS

        await until(look, "the store knows that all are connected")
        for fake in workers:
            await fake.finish()
        for build in builds:
            job = await cluster.until_job(build, "finished")
            assert (job["result"], job["attempt"]) == ("passed", 1)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
    await cluster.is_whole()
