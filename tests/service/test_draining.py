"""Drain a worker, take that back, and remove it, over the API; the worker is a real one."""

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.worker.remote.discovery import Discovery, SystemNames, parse_source
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.worker import RemoteWorker, WorkerOptions
from tests.service.running_service import API, PATIENCE_SECONDS, RunningService, job

WAITS = 'until [ -e "$OPEN" ]; do sleep 0.05; done'


class Machine:
    """``boxsched worker`` as a task."""

    def __init__(self, service: RunningService, token: str, folder: Path) -> None:
        options = WorkerOptions(
            token=lambda: token, data=folder / "builder-2", name="builder-2", boxes=2,
            box_type="default", box_driver="process", log_limit=1 << 20, stop_grace=5.0,
        )  # fmt: skip
        self.open = folder / "open"
        self.connected = asyncio.Event()
        self.remote = RemoteWorker(
            options,
            Discovery([parse_source(service.url)], SystemNames()),
            connected=lambda node: self.connected.set(),
            chance=random.Random(1),
            pace=Pace(beat=0.1, first_wait=0.01, longest_wait=0.05, leave=0.01),
        )
        self.life = asyncio.create_task(self.remote.run())

    async def ended(self) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.life


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """No Boxes of its own."""
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await service.project("web")
        yield service


@pytest.fixture
async def machine(service: RunningService, tmp_path: Path) -> AsyncIterator[Machine]:
    made = await service.call("POST", f"{API}/tokens", {"role": "worker"})
    machine = Machine(service, made.json["token"], tmp_path)
    await machine.connected.wait()
    yield machine
    machine.remote.stop()
    machine.life.cancel()
    await asyncio.gather(machine.life, return_exceptions=True)


async def worker(service: RunningService) -> Any:
    (found,) = [w for w in (await service.get("/workers"))["workers"] if w["name"] == "builder-2"]
    return found


async def runs(service: RunningService, machine: Machine, branch: str = "main") -> str:
    """A build that ends when the file ``open`` is there."""
    waits = {**job("wait", WAITS), "environment": {"OPEN": str(machine.open)}}
    made = await service.build(branch=branch, jobs=[waits])
    await service.until(made["id"], state="running")
    return str(made["id"])


async def test_a_drained_worker_ends_when_its_last_job_has_ended(
    service: RunningService, machine: Machine
) -> None:
    first = await runs(service, machine)
    said = {"note": "new disk"}
    answer = await service.call("POST", f"{API}/workers/builder-2/drain", said)
    assert answer.status == 202
    drain = answer.json["drain"]
    assert (answer.json["state"], answer.json["builds"]) == ("draining", 1)
    assert (drain["note"], drain["by"], drain["stop_at"], drain["done"]) == (
        "new disk", "admin", None, False,
    )  # fmt: skip
    later = await service.build(branch="later")
    await service.until(later["id"], state="queued")
    why = await service.get(f"/workloads/{later['id']}/explanation")
    assert why["text"] == "Every connected worker is draining: builder-2."
    refused = await service.call("DELETE", f"{API}/workers/builder-2")
    assert refused.status == 409 and "drain it" in refused.error["message"]
    machine.open.touch()
    await service.until(first, result="passed")
    await machine.ended()
    assert (await service.get(f"/workloads/{later['id']}"))["state"] == "queued"
    assert (await service.call("DELETE", f"{API}/workers/builder-2")).status == 204
    assert (await service.call("POST", f"{API}/workers/builder-2/drain")).status == 404


async def test_a_drain_can_be_taken_back(service: RunningService, machine: Machine) -> None:
    await runs(service, machine)
    id_ = (await worker(service))["id"]
    assert (await service.call("POST", f"{API}/workers/{id_}/drain")).status == 202
    later = await service.build(branch="later")
    answer = await service.call("POST", f"{API}/workers/{id_}/resume")
    assert (answer.status, answer.json["state"], answer.json["drain"]) == (202, "connected", None)
    await service.until(later["id"], result="passed")
    refused = await service.call("POST", f"{API}/workers/{id_}/resume")
    assert (refused.status, refused.error["message"]) == (
        409, "the worker builder-2 is not being drained",
    )  # fmt: skip
    machine.open.touch()


async def test_jobs_that_run_too_long_are_stopped(
    service: RunningService, machine: Machine
) -> None:
    first = await runs(service, machine)
    said = {"stop_after_seconds": 0.2}
    answer = await service.call("POST", f"{API}/workers/builder-2/drain", said)
    assert answer.json["drain"]["stop_at"].endswith("Z")
    stopped = await service.until(first, result="stopped")
    assert stopped["reason"] == "stopped by admin, who drains builder-2"
    await machine.ended()


async def test_an_idle_worker_that_is_removed_ends(
    service: RunningService, machine: Machine
) -> None:
    assert (await service.call("DELETE", f"{API}/workers/builder-2")).status == 204
    await machine.ended()
    assert (await service.get("/workers"))["workers"] == []


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"note": "two\nlines"}, "note"),
        ({"note": "n" * 501}, "note"),
        ({"stop_after_seconds": -1}, "stop_after_seconds"),
        ({"stop_after_seconds": "soon"}, "stop_after_seconds"),
        ({"why": "x"}, "why"),
    ],
)
async def test_a_wrong_request_names_its_field(
    service: RunningService, machine: Machine, body: object, field: str
) -> None:
    answer = await service.call("POST", f"{API}/workers/builder-2/drain", body)
    assert (answer.status, answer.error["field"]) == (422, field)
    assert (await worker(service))["drain"] is None


async def test_a_worker_that_differs_gets_no_jobs_and_is_told_how(tmp_path: Path) -> None:
    required = (("box_driver", "bubblewrap"),)
    async with RunningService.open(tmp_path / "own", boxes=0, require_worker=required) as service:
        await service.project("web")
        made = await service.call("POST", f"{API}/tokens", {"role": "worker"})
        machine = Machine(service, made.json["token"], tmp_path)
        await machine.connected.wait()
        waits = await service.build()
        await service.until(waits["id"], state="queued")
        found = await worker(service)
        assert found["state"] == "incompatible"
        assert found["differs"] == ["box_driver is process, must be bubblewrap"]
        assert "box_driver=process" in found["fingerprint"].split(", ")
        [node] = (await service.get("/nodes"))["nodes"]
        assert node["requires"] == "box_driver=bubblewrap, protocol=1"
        said = await service.get(f"/workloads/{waits['id']}/explanation")
        assert said["text"].startswith("No worker is compatible: builder-2 (box_driver is process")
        await machine.ended()  # no live node would take it


async def test_a_nodes_own_worker_is_drained_and_stays(tmp_path: Path) -> None:
    async with RunningService.open(tmp_path / "own", boxes=2) as service:
        await service.project("web")
        answer = await service.call("POST", f"{API}/workers/in-process/drain")
        assert (answer.status, answer.json["drain"]["done"]) == (202, True)
        waits = await service.build()
        refused = await service.call("DELETE", f"{API}/workers/in-process")
        assert refused.status == 409 and "belongs to a node" in refused.error["message"]
        await service.until(waits["id"], state="queued")
        assert (await service.call("POST", f"{API}/workers/in-process/resume")).status == 202
        await service.until(waits["id"], result="passed")
