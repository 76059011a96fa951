"""kill -9 of a service that deletes old workloads: every invariant holds, and finally all are
deleted."""

import asyncio
import random
import sqlite3
import subprocess
import sys
from pathlib import Path

from boxsched.store.operating.check import check
from boxsched.store.sqlite.connection import worded
from tests.faults.old_history import old_history
from tests.faults.run_length import REPEATS
from tests.faults.service import Service
from tests.faults.waiting import until

WORKLOADS = 6_000
KILLS = 4 * REPEATS


async def test_a_service_that_is_killed_while_it_deletes_old_data(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    url = f"sqlite:///{data / 'boxsched.sqlite'}"
    upgrade = [sys.executable, "-m", "boxsched", "db", "upgrade", "--database", url]
    await asyncio.to_thread(subprocess.run, upgrade, check=True, capture_output=True)
    raw = sqlite3.connect(data / "boxsched.sqlite", isolation_level=None)
    raw.executescript(
        f"BEGIN; {worded(old_history(WORKLOADS, branches=9, result='failed'))} COMMIT"
    )
    assert await check(url) == []

    def left(table: str = "workload") -> int:
        return int(raw.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    chance = random.Random(1)
    service = Service(data, "--boxes", "1", "--box-driver", "none")
    for _ in range(KILLS):
        before = left()
        service.start()
        enough = before - chance.randrange(1, 400)

        async def gone(enough: int = enough) -> bool:
            return left() <= enough

        await until(gone, "some workloads are deleted")
        service.kill()
        assert await check(url) == []
    service.start()
    try:

        async def all_gone() -> bool:
            return left() == 1 and left("log_chunk") <= 1

        await until(all_gone, "all but the one of the greatest id is deleted", within=120.0)
    finally:
        service.stop()
    assert await check(url) == []
    raw.close()
