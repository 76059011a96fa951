"""kill -9 of the service at any moment: nothing answered is lost, nothing runs twice (F22)."""

import asyncio
import contextlib
import os
import random
import sqlite3
from collections import Counter
from pathlib import Path

import aiohttp
import attrs

from boxsched.store.operating.check import check
from tests.faults.service import Service

KILLS = int(os.environ.get("BOXSCHED_TEST_KILLS", "8"))
CLIENTS = 4
BRANCHES = 6
# One line when a job starts and one when it ends; each is appended as a whole.
SCRIPT = 'echo "$BOXSCHED_JOB begin" >> {0}; sleep {1}; echo "$BOXSCHED_JOB end" >> {0}; echo done'


@attrs.define
class Ledger:
    """The clients' answers: by key, the id, or None if no answer came."""

    answers: dict[str, str | None] = attrs.field(factory=dict)


async def submit_until_it_dies(
    service: Service, ledger: Ledger, chance: random.Random, name: str
) -> None:
    with contextlib.suppress(aiohttp.ClientError, ConnectionError):
        async with service.client() as client:
            for number in range(1_000_000):
                key = f"{name}-{number}"
                ledger.answers[key] = None
                ledger.answers[key] = await submit(client, key, chance.randrange(BRANCHES))
                await asyncio.sleep(chance.random() * 0.05)


async def submit(client: aiohttp.ClientSession, key: str, branch: int) -> str:
    async with client.post(
        "/api/v1/projects/web/builds",
        json={"branch": f"b{branch}"},
        headers={"Idempotency-Key": key},
    ) as answer:
        assert answer.status == 201, await answer.text()
        workload: str = (await answer.json())["id"]
        return workload


async def load_and_kill(
    service: Service, ledger: Ledger, chance: random.Random, round_: int
) -> None:
    load = [
        asyncio.create_task(
            submit_until_it_dies(service, ledger, random.Random(chance.random()), f"{round_}-{n}")
        )
        for n in range(CLIENTS)
    ]
    await asyncio.sleep(chance.random() * 0.8)  # the moment is random, not a wait for something
    service.kill()
    await asyncio.gather(*load)


async def test_nothing_answered_is_lost_and_nothing_runs_twice(tmp_path: Path) -> None:
    chance = random.Random(20)
    service = Service(tmp_path / "data", "--boxes", "4")
    job_record = tmp_path / "book"
    job_record.touch()
    ledger = Ledger()
    service.start()
    jobs = [
        {"name": "short", "commands": [SCRIPT.format(job_record, 0.01)]},
        {"name": "long", "commands": [SCRIPT.format(job_record, 0.2)]},
    ]
    await service.put_project("web", jobs=jobs, cancellation=[["b0", "queued"]])
    for round_ in range(KILLS):
        await load_and_kill(service, ledger, chance, round_)
        with sqlite3.connect(tmp_path / "data" / "boxsched.sqlite") as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        service.start()
    await no_key_is_used_twice(service, ledger)
    await service.until_idle()

    begun = Counter(
        line.split()[0] for line in job_record.read_text().splitlines() if "begin" in line
    )
    ended = Counter(
        line.split()[0] for line in job_record.read_text().splitlines() if "end" in line
    )
    assert max(begun.values()) == 1, "a job ran twice"
    async with service.client() as client:
        for id_ in filter(None, ledger.answers.values()):
            await is_whole(client, id_, begun, ended)
    boxes = (await service.get("boxes"))["boxes"]
    assert len(boxes) == 4 and all(box.get("job") is None for box in boxes), boxes
    assert service.stop() == 0
    assert await check(f"sqlite:///{tmp_path / 'data' / 'boxsched.sqlite'}") == []
    assert len(begun) > KILLS, "too little happened for a test"


async def no_key_is_used_twice(service: Service, ledger: Ledger) -> None:
    """A request without an answer was done once or not at all; when repeated, it is done once."""
    async with service.client() as client:
        for key, id_ in ledger.answers.items():
            if id_ is None:
                # The branch of the request is unknown now: 409 says that the key is used.
                ids = set()
                for branch in range(BRANCHES):
                    with contextlib.suppress(AssertionError):
                        ids.add(await submit(client, key, branch))
                assert len(ids) == 1, (key, ids)


async def is_whole(
    client: aiohttp.ClientSession, id_: str, begun: Counter[str], ended: Counter[str]
) -> None:
    async with client.get(f"/api/v1/workloads/{id_}") as answer:
        assert answer.status == 200, f"{id_} was answered, and is lost"
        workload = await answer.json()
    assert workload["state"] == "finished"
    ran = [job for job in workload["jobs"] if job["result"] != "canceled"]
    assert workload["result"] == ("passed" if ran else "canceled"), workload
    for job in ran:
        assert begun[job["id"]] == ended[job["id"]] == 1, job
        async with client.get(f"/api/v1/jobs/{job['id']}/log") as answer:
            lines = (await answer.text()).splitlines()
            assert lines[-1] == "done", job
            assert not any(line.startswith("+ ") for line in lines[1:]), "its command stands once"
