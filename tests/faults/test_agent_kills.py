"""kill -9 of workers at any moment, under load: no job is lost, none runs twice, every log is whole
(F11, F18)."""

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from boxsched.store.operating.check import check
from boxsched.worker.remote import identity as keeping
from tests.faults import processes
from tests.faults.attempts import Attempts, attempts
from tests.faults.clients import Clients
from tests.faults.members import Worker
from tests.faults.service import Service
from tests.faults.waiting import until, until_true
from tests.worker.conftest import needs_bubblewrap

KILLS = int(os.environ.get("BOXSCHED_TEST_AGENT_KILLS", "10"))
SEED = int(os.environ.get("BOXSCHED_TEST_SEED", "11"))
WORKERS, BOXES, SUBMITTERS = 4, 2, 10
LINES, BURST = 400, 20
PATIENCE_SECONDS = 600.0
# The parts of the kills that may hit a worker before it is connected, and that wait until its jobs
# have ended: on a machine where a start takes long, all others may hit it before it reports.
EARLY, LATE = 0.3, 0.3
MOST_SECONDS = 1.5  # from that moment to the kill
DRIVERS = ["process", pytest.param("bubblewrap", marks=needs_bubblewrap)]

pytestmark = pytest.mark.timeout(PATIENCE_SECONDS + 15 * KILLS)


@pytest.fixture
def folder() -> Iterator[Path]:
    """Jobs run as another user where they are isolated, so others must reach it."""
    made = Path(tempfile.mkdtemp(prefix="boxsched-kills-"))
    made.chmod(0o755)
    yield made
    processes.clear(made)
    shutil.rmtree(made, ignore_errors=True)


@attrs.define
class Submitted:
    """A closed loop: each submitter submits the next workload when its last one has ended."""

    clients: Clients
    over: bool = False
    jobs: list[dict[str, object]] = attrs.field(factory=list)

    async def run(self, name: str) -> None:
        number = 0
        while not self.over:
            deploy = number % 3 == 2
            kind, lane = ("deploys", {"server": name}) if deploy else ("builds", {"branch": name})
            id_ = await self.clients.submit(f"{name}-{number}", f"projects/web/{kind}", lane)
            number += 1

            async def ended(id_: str = str(id_)) -> dict[str, object] | None:
                (job,) = (await self.clients.get(f"workloads/{id_}"))["jobs"]
                return job if job["state"] == "finished" else None

            self.jobs.append(await until(ended, f"{id_} ends", within=PATIENCE_SECONDS))


async def kill_at_random(
    clients: Clients, worker: Worker, kills: int, chance: random.Random
) -> None:
    for _ in range(kills):
        kind = chance.random()
        if kind >= EARLY:
            await worker.says("connected to ", within=PATIENCE_SECONDS)
        if kind >= 1 - LATE:
            await its_jobs_end(clients, worker.name)
        await asyncio.sleep(chance.uniform(0, MOST_SECONDS))  # a random moment
        if not worker.runs:
            raise AssertionError(f"{worker.name} {worker.standing}\n{worker.said[-3000:]}")
        await worker.kill()
        await worker.spawn()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_kills_of_workers_lose_no_job_and_run_none_twice(folder: Path, driver: str) -> None:
    service = Service(folder / "service", "--boxes", "0")
    await asyncio.to_thread(service.start)
    clients = Clients([service.url], service.token, folder / "journal")
    async with attempts() as recorder:
        job = {"name": "j", "commands": [recorder.script(LINES, BURST)], "show_commands": False}
        servers = {f"s{number}": {"jobs": [job]} for number in range(SUBMITTERS)}
        put = await clients.ask("PUT", "projects/web", {"jobs": [job], "servers": servers})
        assert put.status in (200, 201), put
        made = await clients.once(
            service.url, "POST", "tokens", {"role": "worker", "name": "w", "max_workers": WORKERS}
        )
        workers = []
        for number in range(WORKERS):
            options = ("--boxes", str(BOXES), "--box-driver", driver, "--url", service.url)
            workers.append(Worker(folder, f"w{number}", *options, "--token", made.json["token"]))
            await workers[-1].spawn()
        submitted = Submitted(clients)
        async with asyncio.TaskGroup() as group:
            for number in range(SUBMITTERS):
                group.create_task(submitted.run(f"s{number}"))
            await until_true(lambda: bool(submitted.jobs), "a job has run")
            each = [KILLS // WORKERS + (n < KILLS % WORKERS) for n in range(WORKERS)]
            async with asyncio.TaskGroup() as killing:
                for number, worker in enumerate(workers):
                    chance = random.Random(f"{SEED} {number}")
                    killing.create_task(kill_at_random(clients, worker, each[number], chance))
            submitted.over = True
        await all_is_whole(clients, submitted, recorder)
        shown = (await clients.get("workers"))["workers"]
        assert not [note for one in shown for note in one.get("notes") or ()], shown
        for worker in workers:
            assert not worker.raised, worker.said[-3000:]
            await its_folders_are_removed(worker)
            assert await worker.terminate() == 0
    await clients.close()
    assert await asyncio.to_thread(service.stop) == 0
    assert await check(f"sqlite:///{folder / 'service' / 'boxsched.sqlite'}") == []
    assert len(submitted.jobs) > KILLS, "too little happened for a test"


async def its_folders_are_removed(worker: Worker) -> None:
    folder = worker.data / keeping.JOBS
    assert folder.is_dir()
    await until_true(lambda: not list(folder.glob("w*")), "the folders of its jobs are removed")


async def its_jobs_end(clients: Clients, worker: str) -> None:
    """Return when none of the jobs that the worker has now is in a Box of it."""

    async def held() -> set[str]:
        boxes = (await clients.get("boxes"))["boxes"]
        return {one["job"] for one in boxes if one["worker_name"] == worker and one.get("job")}

    before = await held()

    async def ended() -> bool:
        return not before & await held()

    await until(ended, f"the jobs of {worker} end", within=PATIENCE_SECONDS)


async def all_is_whole(clients: Clients, submitted: Submitted, recorder: Attempts) -> None:
    found = []
    for job in submitted.jobs:
        name = str(job["id"])
        if (job["result"], job["attempt"]) != ("passed", 1):
            found.append(f"{name}: {job}")
        if recorder.of(name) != {("1", "begin"): 1, ("1", "end"): 1}:
            found.append(f"{name} said {recorder.of(name)}")
        log = await clients.get(f"jobs/{name}/log")
        if log != recorder.log_of(name, LINES):
            found.append(f"the log of {name} is not whole: {len(log)} characters")
    assert not found, "\n".join(found[:20])
