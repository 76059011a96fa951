"""The cost of failing notifications for the scheduler: the same load without and with them.

Run by hand, on a quiet machine: ``python -m tests.bench.failing_notifications [--rounds N]``. Runs
two services; in one, thousands of notifications to a receiver that answers 500 are tried all the
time. The load is given to each in turn, while the other is stopped (SIGSTOP), so that both see the
same machine. Prints finished builds per second of each, failed tries per second, and the ratio.
"""

import argparse
import asyncio
import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator

import attrs

from boxsched.client import Client
from tests.outgoing.receiver import Receiver

WAITING = 4_000  # notifications, before the load starts
LOAD = ("--builds", "3000")
SERVE = ("serve", "--port", "0", "--box-driver", "none", "--boxes", "8")


@attrs.frozen
class Service:
    """A running service. Stopped while ``resumed`` is not entered."""

    process: asyncio.subprocess.Process
    url: str
    data: str

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls) -> AsyncIterator["Service"]:
        with tempfile.TemporaryDirectory() as data:
            options = (*SERVE, "--data", data, "--allow-outgoing", "127.0.0.1")
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "boxsched", *options,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            assert process.stdout is not None
            try:
                url = (await process.stdout.readline()).decode().split()[-1]
                yield cls(process, url, data)
            finally:
                process.kill()
                await process.wait()

    async def finished_per_second(self) -> float:
        self.process.send_signal(signal.SIGCONT)
        bench = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "boxsched", "bench", "--data", self.data, *LOAD,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        said, _ = await bench.communicate()
        self.process.send_signal(signal.SIGSTOP)
        rate: float = json.loads(said)["finished_builds_per_second"]
        return rate


async def fill(service: Service, hooks: list[str]) -> None:
    """Submit builds, for each hook four notifications of each."""
    with open(f"{service.data}/admin-token") as file:
        token = file.read().strip()
    settings = {
        "jobs": [{"name": "j", "commands": ["true"]}],
        "hooks": [{"url": url} for url in hooks],
    }
    async with Client(service.url, token) as client:
        await client.put_project("noisy", settings)
        for begin in range(0, WAITING, 100):
            numbers = range(begin, begin + 100)
            await asyncio.gather(
                *(client.build("noisy", branch=f"b{number}") for number in numbers)
            )


async def main(rounds: int) -> None:
    plain, beside, tries = [], [], []
    async with (
        Receiver.open(500) as receiver,
        Service.open() as quiet,
        Service.open() as noisy,
    ):
        await fill(quiet, [])
        quiet.process.send_signal(signal.SIGSTOP)
        await fill(noisy, [f"{receiver.url}/hook"])
        await receiver.until(1)
        for _ in range(rounds):
            plain.append(await quiet.finished_per_second())
            before, began = len(receiver.got), time.monotonic()
            beside.append(await noisy.finished_per_second())
            tries.append((len(receiver.got) - before) / (time.monotonic() - began))
            print(
                f"finished builds/s: {plain[-1]:.0f} without, {beside[-1]:.0f} beside "
                f"{tries[-1]:.0f} failed tries/s: {beside[-1] / plain[-1]:.2f}",
                flush=True,
            )
    ratio = statistics.median(b / p for p, b in zip(plain, beside, strict=True))
    medians = statistics.median(beside) / statistics.median(plain)
    print(f"median ratio {ratio:.2f}, ratio of the medians {medians:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    asyncio.run(main(parser.parse_args().rounds))
