"""How late log lines arrive while a job of another worker prints 50 MB/s.

Run by hand: ``python -m tests.bench.log_flood [--postgres] [--embedded] [--same-worker]``. As many
jobs as ``--floods`` says print lines at ``--rate`` together; they have a worker of their own. Quiet
jobs print a line with the machine's clock every 0.1 s; a reader follows the log of each,
on each node. Prints how late their lines arrive, before and during the flood, and how much of the
flood was printed and stored. ``--embedded``: the floods run in the service's own Boxes.
``--same-worker``: the quiet jobs have Boxes of the same worker as the floods.
"""

import argparse
import asyncio
import contextlib
import statistics
import sys
import time
from pathlib import Path

import aiohttp

from tests.bench.reconnecting_workers import Installation, installation
from tests.faults.members import Worker
from tests.faults.waiting import until

BEFORE_SECONDS, PAUSE_SECONDS = 10.0, 0.1
QUIET_JOBS = 2
LOG_LIMIT = str(1000 << 20)

_QUIET = r"""exec 9<> <(:)
while :; do
  read -r up _ < /proc/uptime
  echo "at $up"
  read -rt 0.1 -u 9 || :
done"""
# Sends blocks at a rate, and says at the end how much it has sent.
_FLOOD = """import os, sys, time
rate, seconds = float(sys.argv[1]), float(sys.argv[2])
block = (b"x" * 99 + b"\\n") * 640
began, sent = time.monotonic(), 0
while (now := time.monotonic() - began) < seconds:
    if sent > now * rate:
        time.sleep(0.001)
        continue
    os.write(1, block)
    sent += len(block)
os.write(1, b"sent %d in %.1f s\\n" % (sent, time.monotonic() - began))
"""


def boot_time() -> float:
    return float(Path("/proc/uptime").read_text().split()[0])


async def follow(url: str, token: str, job: str, late: list[tuple[float, float]]) -> None:
    """Add (when, seconds late) for each line that arrives."""
    headers = {"Authorization": f"Bearer {token}"}
    none = aiohttp.ClientTimeout(total=None)
    async with (
        aiohttp.ClientSession(headers=headers, timeout=none) as http,
        http.get(f"{url}/api/v1/jobs/{job}/log", params={"follow": "1"}) as answer,
    ):
        assert answer.status == 200, await answer.text()
        async for line in answer.content:
            if line.startswith(b"at "):
                late.append((time.monotonic(), boot_time() - float(line.split()[1])))


def show(what: str, late: list[tuple[float, float]], since: float, until_: float) -> None:
    here = [seconds for at, seconds in late if since <= at < until_]
    cut = statistics.quantiles(here, n=100)
    print(
        f"{what}: {len(here)} lines, late by median {statistics.median(here):.2f} s, "
        f"p99 {cut[98]:.2f} s, most {max(here):.2f} s",
        flush=True,
    )


async def worker(where: Installation, folder: Path, name: str, boxes: int, token: str) -> Worker:
    urls = [word for node in where.nodes for word in ("--url", node.url)]
    options = ("--boxes", str(boxes), "--box-type", name, "--token", token, *urls)
    its = Worker(folder, name, *options, "--log-limit", LOG_LIMIT)
    await its.spawn()
    return its


async def submitted(where: Installation, branch: str, job: dict[str, object]) -> str:
    id_ = await where.clients.submit(
        branch, "projects/web/builds", {"branch": branch, "jobs": [job]}
    )

    async def running() -> str | None:
        (one,) = (await where.clients.get(f"workloads/{id_}"))["jobs"]
        return str(one["id"]) if one["state"] == "running" else None

    return await until(running, f"{branch} runs")


async def main(chosen: argparse.Namespace) -> None:
    options = ["--log-limit", LOG_LIMIT]
    if chosen.embedded:
        options += ["--boxes", str(chosen.floods), "--allow-mixed"]
    async with contextlib.AsyncExitStack() as opened:
        where = await opened.enter_async_context(
            installation(chosen.nodes, chosen.postgres, *options)
        )
        folder = where.folder
        token, workers = await where.worker_token(), []
        boxes = chosen.floods + QUIET_JOBS
        if not chosen.embedded:
            workers.append(await worker(where, folder, "flood", boxes, token))
        if not chosen.same_worker:
            workers.append(await worker(where, folder, "quiet", QUIET_JOBS, token))
        settings = {"jobs": [{"name": "j", "commands": ["true"]}]}
        await where.clients.ask("PUT", "projects/web", settings)
        late: list[tuple[float, float]] = []
        readers = []
        for number in range(QUIET_JOBS):
            kind = "flood" if chosen.same_worker else "quiet"
            quiet = {"name": "q", "commands": [_QUIET], "box_type": kind, "show_commands": False}
            job = await submitted(where, f"quiet-{number}", quiet)
            for node in where.nodes:
                reading = follow(node.url, where.nodes[0].token, job, late)
                readers.append(asyncio.create_task(reading))
        began = time.monotonic()
        await asyncio.sleep(BEFORE_SECONDS)
        flooded = time.monotonic()
        script = folder / "flood.py"
        script.write_text(_FLOOD)
        rate = chosen.rate * 1e6 / chosen.floods
        command = f"{sys.executable} {script} {rate} {chosen.seconds}"
        flood = {
            "name": "f",
            "commands": [command],
            "box_type": "default" if chosen.embedded else "flood",
        }
        jobs = await asyncio.gather(
            *(submitted(where, f"flood-{number}", flood) for number in range(chosen.floods))
        )
        await asyncio.sleep(chosen.seconds)
        ended = time.monotonic()
        stored = sum([await size(where, job) for job in jobs])
        show("before", late, began, flooded)
        show(f"with {chosen.rate:g} MB/s", late, flooded, ended)
        printed, took = sum(log.stat().st_size for log in folder.rglob("w*/log")), ended - flooded
        print(f"printed {printed / took / 1e6:.1f} MB/s, stored {stored / took / 1e6:.1f} MB/s")
        for reader in readers:
            reader.cancel()
        await asyncio.gather(*readers, return_exceptions=True)
        for id_ in await where.clients.workloads():
            await where.clients.ask("POST", f"workloads/{id_}/stop")
        await until(lambda: idle(where), "all has ended", within=600.0)
        for one in workers:
            await one.terminate()


async def size(where: Installation, job: str) -> int:
    reply = await where.clients.once(where.nodes[0].url, "GET", f"jobs/{job}/log?offset=999999999")
    return int(reply.headers["Boxsched-Log-Size"])


async def idle(where: Installation) -> bool:
    now = await where.clients.get("activity")
    return not (now["upcoming"] or now["blocked"] or now["running"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=50.0, help="MB/s, of all floods together")
    parser.add_argument("--floods", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--nodes", type=int, default=1)
    parser.add_argument("--postgres", action="store_true")
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--same-worker", action="store_true")
    asyncio.run(main(parser.parse_args()))
