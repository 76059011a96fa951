"""The cost of failing notifications for the scheduler: the same load without and with them.

Run by hand, on a quiet machine: ``python -m tests.bench.failing_notifications [--rounds N]``. Runs
two services, one after the other. In the second, thousands of notifications to a receiver that
answers 500 are tried all the time. Prints finished builds per second of each, failed tries per
second, and the ratio.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time

from boxsched.client import Client
from tests.outgoing.receiver import Receiver

WAITING = 4_000  # notifications, before the load starts
LOAD = ("--builds", "5000")
SERVE = ("serve", "--port", "0", "--box-driver", "none", "--boxes", "8")


async def measured(hook: str | None, receiver: Receiver) -> tuple[float, float]:
    """Return finished builds and failed tries per second."""
    with tempfile.TemporaryDirectory() as data:
        options = (*SERVE, "--data", data, "--allow-outgoing", "127.0.0.1")
        service = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "boxsched", *options,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert service.stdout is not None
        url = (await service.stdout.readline()).decode().split()[-1]
        try:
            if hook is not None:
                await fill(url, data, hook, receiver)
            before, began = len(receiver.got), time.monotonic()
            bench = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "boxsched", "bench", "--data", data, *LOAD,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            said, _ = await bench.communicate()
            tries = (len(receiver.got) - before) / (time.monotonic() - began)
            return json.loads(said)["finished_builds_per_second"], tries
        finally:
            service.terminate()
            await service.wait()


async def fill(url: str, data: str, hook: str, receiver: Receiver) -> None:
    """Submit builds whose notifications fail, until all have been tried."""
    with open(f"{data}/admin-token") as file:
        token = file.read().strip()
    settings = {"jobs": [{"name": "j", "commands": ["true"]}], "hooks": [{"url": hook}]}
    async with Client(url, token) as client:
        await client.put_project("noisy", settings)
        for begin in range(0, WAITING, 100):
            numbers = range(begin, begin + 100)
            await asyncio.gather(
                *(client.build("noisy", branch=f"b{number}") for number in numbers)
            )
    await receiver.until(len(receiver.got) + 1)


async def main(rounds: int) -> None:
    ratios = []
    async with Receiver.open(500) as receiver:
        for _ in range(rounds):
            plain, _ = await measured(None, receiver)
            beside, tries = await measured(f"{receiver.url}/hook", receiver)
            ratios.append(beside / plain)
            print(
                f"finished builds/s: {plain:.0f} without, {beside:.0f} beside {tries:.0f} failed "
                f"tries/s: {ratios[-1]:.2f}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    asyncio.run(main(parser.parse_args().rounds))
