"""How much submissions slow down while old workloads are pruned.

BOXSCHED_TEST_PRUNED=200000 pytest tests/bench/test_pruning.py -s

fills a database with that many finished workloads, and loads a service at half of its greatest
rate, without and with pruning. It is skipped otherwise: its figures need a quiet machine.
"""

import asyncio
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import aiohttp
import psycopg2
import pytest

from boxsched.store.sqlite.connection import worded
from tests.contract.postgres_server import database, provided
from tests.faults.old_history import old_history
from tests.faults.service import Service

WORKLOADS = int(os.environ.get("BOXSCHED_TEST_PRUNED", "0"))
SECONDS = float(os.environ.get("BOXSCHED_TEST_PRUNED_SECONDS", "20"))
CLIENTS = 8
Say = Callable[[str], None]
ROUNDS = 3

pytestmark = [
    pytest.mark.skipif(WORKLOADS == 0, reason="only where BOXSCHED_TEST_PRUNED says how many"),
    pytest.mark.timeout(3_600),
]


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Say]]:
    """The URL of a database, and a function that executes SQL on it."""
    if request.param == "sqlite":
        path = tmp_path / "data" / "boxsched.sqlite"

        def say(text: str) -> None:
            raw = sqlite3.connect(path, isolation_level=None)
            raw.executescript(f"BEGIN; {worded(text)}; COMMIT")
            raw.close()

        yield f"sqlite:///{path}", say
        return
    with provided() as server, database(server) as url:

        def say_there(text: str) -> None:
            raw = psycopg2.connect(url)
            raw.autocommit = True
            with raw.cursor() as cursor:
                cursor.execute(text)
                cursor.execute(f"SELECT setval('workload_id', {WORKLOADS})")
                cursor.execute("SELECT setval('project_id_seq', 1)")
                cursor.execute("ANALYZE")
            raw.close()

        yield url, say_there


class Load:
    """Submissions to one service over kept connections."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._count = 0

    async def submit(self, client: aiohttp.ClientSession) -> None:
        self._count += 1
        body = {"branch": f"l{self._count % 200}"}
        async with client.post("/api/v1/projects/web/builds", json=body) as answer:
            assert answer.status == 201, await answer.text()

    async def greatest_rate(self, seconds: float) -> float:
        """Return how many per second CLIENTS get through."""
        until = time.monotonic() + seconds
        before = self._count

        async def one(client: aiohttp.ClientSession) -> None:
            while time.monotonic() < until:
                await self.submit(client)

        async with self._service.client() as client:
            await asyncio.gather(*(one(client) for _ in range(CLIENTS)))
        return (self._count - before) / seconds

    async def p99(self, rate: float, seconds: float) -> float:
        """Return the p99 of submissions at that rate, whether or not earlier ones are answered."""
        taken: list[float] = []
        begun = time.monotonic()

        async def one(client: aiohttp.ClientSession, at: float) -> None:
            await self.submit(client)
            taken.append(time.monotonic() - at)

        async with self._service.client() as client, asyncio.TaskGroup() as tasks:
            for number in range(int(rate * seconds)):
                at = begun + number / rate
                await asyncio.sleep(max(0.0, at - time.monotonic()))
                tasks.create_task(one(client, at))
        return sorted(taken)[int(len(taken) * 0.99)]

    async def pruned(self) -> int:
        """Return the rows that the service has deleted: workloads and events."""
        async with self._service.client() as client, client.get("/metrics") as answer:
            lines = (await answer.text()).splitlines()
        found = [
            one.rsplit(" ", 1) for one in lines if one.startswith("boxsched_pruned_rows_total")
        ]
        return sum(int(float(value)) for name, value in found if "log_chunk" not in name)


async def test_submissions_are_measured_beside_the_pruning(
    place: tuple[str, Say], tmp_path: Path
) -> None:
    url, say = place
    options = ("--database", url, "--boxes", "4", "--box-driver", "none", "--keep-logs", "0")
    (tmp_path / "data").mkdir()
    command = [sys.executable, "-m", "boxsched", "db", "upgrade", "--database", url]
    await asyncio.to_thread(subprocess.run, command, check=True, capture_output=True)
    # before there is anything younger
    say(old_history(WORKLOADS, branches=50, result="passed"))
    service = Service(tmp_path / "data", *options, "--keep-history", "0")
    service.start()
    await service.put_project("web", jobs=[{"name": "test", "commands": ["true"]}])
    service.stop()
    service.start()
    rate = await Load(service).greatest_rate(5.0) / 2
    await service.until_idle()
    service.stop()
    quiet: list[float] = []
    beside: list[float] = []
    gone = 0
    for _ in range(ROUNDS):
        for days, found in (("0", quiet), ("90", beside)):
            service.options = (*options, "--keep-history", days)
            service.start()
            load = Load(service)
            await load.p99(rate, 2.0)  # warm
            before = await load.pruned()
            found.append(await load.p99(rate, SECONDS))
            if days == "90":
                gone += await load.pruned() - before
            await service.until_idle()
            service.stop()
    ratio = median(beside) / median(quiet)
    print(
        f"\n{url.partition(':')[0]}: {rate:.0f} submissions/s; p99 {1e3 * median(quiet):.1f} ms"
        f" alone, {1e3 * median(beside):.1f} ms beside the pruning: {ratio:.2f} times; rounds"
        f" {[round(1e3 * one, 1) for one in (*quiet, *beside)]}; {gone} rows in"
        f" {ROUNDS * SECONDS:.0f} s"
    )
    assert gone > 1_000
    assert ratio < 1.5
