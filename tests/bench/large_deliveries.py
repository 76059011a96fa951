"""How long large deliveries of a code host hold the event loop, beside a steady load.

python -m tests.bench.large_deliveries [--rounds N] [--seconds S]

Each round runs a service twice: with submissions only, and with signed deliveries of 22 MiB of six
kinds beside them, plain and compressed. Prints the longest hold of the event loop, by the service's
own metric, and the p99 of a submission.
"""

import argparse
import asyncio
import gzip
import itertools
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import aiohttp

from tests.faults.service import Service
from tests.service.code_hosts import SECRET, push, signed

SIZE = 22 << 20
SUBMISSIONS_A_SECOND = 50.0
_COMMIT = {"id": "a" * 40, "message": "m" * 10_000, "author": {"name": "Ada"}}
_FILE = "src/of/a/long/name/" + "x" * 55


def bodies() -> dict[str, bytes]:
    """Texts that make each step of the reading slow."""
    made = {
        "one long text": push(padding="x" * SIZE),
        "escapes": push(padding="\n" * (SIZE // 2)),
        "many commits": push(commits=[_COMMIT] * (SIZE // 10_100)),
        "many files": push(commits=[{"added": [_FILE] * (SIZE // 78)}]),
    }
    found = {name: json.dumps(body).encode() for name, body in made.items()}
    found["not ASCII"] = json.dumps(push(padding="é" * (SIZE // 2)), ensure_ascii=False).encode()
    found["spaces"] = json.dumps(push()).encode()[:-1] + b" " * SIZE + b"}"
    return found


async def measured(large: dict[str, bytes], seconds: float) -> tuple[float, float, int]:
    """Return the longest hold and the p99 of a submission, in ms, and the number of deliveries."""
    with tempfile.TemporaryDirectory() as data:
        service = Service(Path(data), "--boxes", "2", "--box-driver", "none")
        service.start()
        try:
            jobs = [{"name": "test", "commands": ["true"]}]
            await service.put_project("web", jobs=jobs, webhook_secret=SECRET)
            sender = asyncio.create_task(_send(service.url, large))
            async with service.client() as client:
                taken = await _submit(client, seconds)
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
                async with client.get("/metrics") as answer:
                    lines = (await answer.text()).splitlines()
        finally:
            service.stop()
    hold = _sum(lines, "boxsched_loop_hold_seconds ")
    count = _sum(lines, "boxsched_deliveries_total{")
    return 1e3 * hold, 1e3 * sorted(taken)[int(len(taken) * 0.99)], int(count)


def _sum(lines: list[str], name: str) -> float:
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name))


async def _submit(client: aiohttp.ClientSession, seconds: float) -> list[float]:
    taken: list[float] = []
    begun = time.monotonic()

    async def one(number: int, at: float) -> None:
        path = "/api/v1/projects/web/builds"
        async with client.post(path, json={"branch": f"b{number % 50}"}) as answer:
            assert answer.status == 201, await answer.text()
        taken.append(time.monotonic() - at)

    async with asyncio.TaskGroup() as tasks:
        for number in range(int(SUBMISSIONS_A_SECOND * seconds)):
            at = begun + number / SUBMISSIONS_A_SECOND
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            tasks.create_task(one(number, at))
    return taken


async def _send(url: str, large: dict[str, bytes]) -> None:
    """Send different deliveries, one after the other, until cancelled."""
    async with aiohttp.ClientSession(url) as client:
        for number, body in enumerate(itertools.cycle(large.values())):
            new = body.replace(b'"deleted"', b'"n": %d, "deleted"' % number, 1)
            headers = {"X-GitHub-Event": "push", **signed("github", new)}
            if number % 2:
                new = await asyncio.to_thread(gzip.compress, new, 1)
                headers["Content-Encoding"] = "gzip"
            async with client.post("/webhooks/github/web", data=new, headers=headers) as answer:
                assert answer.status == 200, await answer.text()


async def main(rounds: int, seconds: float) -> None:
    large = bodies()
    found: list[tuple[float, float]] = []
    for _ in range(rounds):
        plain, plain_p99, _ = await measured({}, seconds)
        beside, beside_p99, count = await measured(large, seconds)
        found.append((plain, beside))
        print(
            f"longest hold {plain:.1f} ms alone, {beside:.1f} ms beside {count} deliveries; "
            f"p99 of a submission {plain_p99:.1f} and {beside_p99:.1f} ms",
            flush=True,
        )
    alone, with_them = (median(each) for each in zip(*found, strict=True))
    print(f"median of the longest holds: {alone:.1f} ms alone, {with_them:.1f} ms beside them")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    asyncio.run(main(options.rounds, options.seconds))
