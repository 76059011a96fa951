"""How many jobs of a worker's 8 Boxes start and end per second, by Box driver.

Run by hand: ``python -m tests.bench.job_starts [--rounds N] [--jobs N] [--postgres]``. There is a
worker for each driver; the drivers take turns, so that all see the same machine. A round is so many
builds of one job, ``true``, submitted at once. Prints jobs per second from the first to the last of
a round, the median of the rounds, and what the driver adds to a job, compared with ``process``: the
difference of the times for which one Box is busy with a job.
"""

import argparse
import asyncio
import contextlib
import statistics
import time

from tests.bench.reconnecting_workers import Installation, installation
from tests.faults.members import Worker
from tests.faults.waiting import until

BOXES = 8
DRIVERS = ("process", "bubblewrap")


async def add_worker(where: Installation, driver: str, token: str) -> Worker:
    worker = Worker(
        where.folder, driver, "--boxes", str(BOXES), "--box-type", driver, "--box-driver", driver,
        "--token", token, *(word for node in where.nodes for word in ("--url", node.url)),
    )  # fmt: skip
    worker.environment.pop("BOXSCHED_BOX_DRIVER", None)
    await worker.spawn()

    async def connected() -> bool:
        found = (await where.clients.get("workers"))["workers"]
        return any(one["name"] == driver and one["state"] == "connected" for one in found)

    await until(connected, f"the worker with {driver} is connected")
    return worker


async def rate(where: Installation, driver: str, jobs: int, number: int) -> float:
    """Return how many jobs a second ended in a round."""
    job = {"name": "j", "commands": ["true"], "box_type": driver}
    began = time.monotonic()
    await asyncio.gather(
        *(
            where.clients.submit(
                f"{driver}-{number}-{n}",
                "projects/web/builds",
                {"branch": f"{driver}-{number}-{n}", "jobs": [job]},
            )
            for n in range(jobs)
        )
    )

    async def idle() -> bool:
        now = await where.clients.get("activity")
        return not (now["upcoming"] or now["blocked"] or now["running"])

    await until(idle, "all jobs have ended", within=600.0)
    return jobs / (time.monotonic() - began)


async def main(chosen: argparse.Namespace) -> None:
    async with contextlib.AsyncExitStack() as opened:
        where = await opened.enter_async_context(installation(1, chosen.postgres))
        token = await where.worker_token()
        workers = [await add_worker(where, driver, token) for driver in DRIVERS]
        settings = {"jobs": [{"name": "j", "commands": ["true"]}]}
        await where.clients.ask("PUT", "projects/web", settings)
        found: dict[str, list[float]] = {driver: [] for driver in DRIVERS}
        for number in range(chosen.rounds):
            for driver in DRIVERS:
                found[driver].append(await rate(where, driver, chosen.jobs, number))
                print(f"round {number + 1}, {driver}: {found[driver][-1]:.0f} jobs/s", flush=True)
        medians = {driver: statistics.median(rates) for driver, rates in found.items()}
        for driver, median in medians.items():
            adds = BOXES * 1_000 * (1 / median - 1 / medians["process"])
            print(f"{driver}: {median:.0f} jobs/s, {adds:+.1f} ms a job in one of {BOXES} Boxes")
        for worker in workers:
            await worker.terminate()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=300, help="in a round")
    parser.add_argument("--postgres", action="store_true")
    asyncio.run(main(parser.parse_args()))
