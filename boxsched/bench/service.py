"""A running service, loaded from outside and measured by its own timestamps and ours.

First the idle service: builds one at a time, from the submission to the start. Then the load: all
builds as fast as they are taken, each on a branch of its own so that no lane holds them back; done
when all have finished. While they run the service is asked for its figures once in half a second,
which costs it nothing to speak of; the builds' own times are read afterwards.
"""

import asyncio
import contextlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from datetime import datetime

import attrs
import msgspec

from boxsched.bench.figures import resident_mib, spread
from boxsched.bench.load import Load, Single, Target
from boxsched.client import Client, Workload
from boxsched.errors import StoreAway

PROJECT = "bench"
IDLE_BUILDS = 200
POLL_SECONDS = 0.5
STALLED_SECONDS = 60.0  # without a build finished: something holds them
_PAGE = 200
_PATH = f"/api/v1/projects/{PROJECT}/builds"


@attrs.frozen
class Plan:
    builds: int
    jobs: int
    concurrency: int


class _Id(msgspec.Struct):
    id: str


async def measure(
    client: Client,
    target: Target,
    plan: Plan,
    pid: int | None,
    say: Callable[[str], None],
) -> dict[str, object]:
    """All figures of the service; raises StoreAway where something keeps the builds from ending."""
    names = [f"job-{number + 1}" for number in range(plan.jobs)]
    jobs = [{"name": name, "commands": ["true"]} for name in names]
    await client.put_project(PROJECT, {"jobs": jobs})
    run = secrets.token_hex(4)
    say(f"idle service: {IDLE_BUILDS} builds, one at a time")
    idle = await _idle(client, target, run)
    say(f"load: {plan.builds} builds of {plan.jobs} jobs over {plan.concurrency} connections")
    load, peak_mib = await _loaded(client, target, plan, run)
    say("reading the builds' times")
    workloads = await _submitted(client, plan.builds)
    began, ended = _span(workloads)
    if pid is not None:
        peak_mib = resident_mib(pid, "VmHWM") or peak_mib
    seconds = (ended - began).total_seconds()
    return {
        "builds": plan.builds,
        "jobs_per_build": plan.jobs,
        "concurrency": plan.concurrency,
        "boxes": len(await client.boxes()),
        "submissions_per_second": round(plan.builds / load.took, 1),
        "finished_builds_per_second": round(plan.builds / seconds, 1),
        "jobs_per_second": round(plan.builds * plan.jobs / seconds, 1),
        "latency_ms": spread(load.seconds),
        "submit_to_start_ms": idle,
        "peak_memory_mib": peak_mib,
    }


# --- The idle service -------------------------------------------------------------------------


class _Heard:
    """When which event of which workload arrived here."""

    def __init__(self) -> None:
        self._at: dict[tuple[str, str], float] = {}
        self._news = asyncio.Event()

    def hear(self, workload: str, type_: str) -> None:
        self._at[workload, type_] = time.perf_counter()
        self._news.set()

    async def when(self, workload: str, type_: str) -> float:
        while (at := self._at.get((workload, type_))) is None:
            self._news.clear()
            await self._news.wait()
        return at


@contextlib.asynccontextmanager
async def _listening(client: Client) -> AsyncIterator[_Heard]:
    heard = _Heard()
    stream = client.events()
    await stream.open()

    async def listen() -> None:
        async for event in stream:
            if event.workload is not None:
                heard.hear(event.workload, event.type)

    task = asyncio.create_task(listen())
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await stream.close()


async def _idle(client: Client, target: Target, run: str) -> dict[str, object]:
    """From the submission to the start, by the workloads' own times, and as seen from here."""
    seen: list[float] = []
    single = Single()
    await single.open(target)
    try:
        async with _listening(client) as heard, asyncio.timeout(STALLED_SECONDS):
            for number in range(IDLE_BUILDS):
                began = time.perf_counter()
                status, body = await single.ask(target.post(_PATH, _body(f"idle-{run}-{number}")))
                if status != b"201":
                    raise StoreAway(f"a submission was answered {status.decode()}")
                build = msgspec.json.decode(body, type=_Id).id
                seen.append(await heard.when(build, "workload.started") - began)
                await heard.when(build, "workload.finished")
    except TimeoutError:
        raise _stalled("start") from None
    finally:
        single.close()
    own = [_seconds(one.created_at, one.started_at) for one in await _submitted(client, len(seen))]
    return spread(own) | {"seen_by_client": spread(seen)}


# --- The loaded service -----------------------------------------------------------------------


async def _loaded(
    client: Client, target: Target, plan: Plan, run: str
) -> tuple[Load, float | None]:
    """The load, when all of it has finished, and the most memory that was seen."""
    before = await _figures(client)
    load = Load([target.post(_PATH, _body(f"load-{run}-{n:07}")) for n in range(plan.builds)])
    running = asyncio.create_task(load.run(target, plan.concurrency))
    finished, peak, stalled = 0, 0.0, 0.0
    try:
        while finished < plan.builds:
            await asyncio.sleep(POLL_SECONDS)
            if running.done():
                running.result()
            figures = await _figures(client)
            now_finished = round(figures.finished - before.finished)
            stalled = stalled + POLL_SECONDS if now_finished == finished else 0.0
            finished, peak = now_finished, max(peak, figures.resident_mib)
            if stalled > STALLED_SECONDS:
                raise _stalled("finish")
        await running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    return load, round(peak, 1) or None


@attrs.frozen
class _Figures:
    finished: float
    resident_mib: float


async def _figures(client: Client) -> _Figures:
    text = await client.metrics()
    resident = _metric(text, "process_resident_memory_bytes") or 0.0
    finished = _metric(text, "boxsched_workloads_finished_total")
    if finished is None:
        raise StoreAway("the service's /metrics do not say how many workloads have finished")
    return _Figures(finished, resident / (1 << 20))


def _metric(text: str, name: str) -> float | None:
    found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
    return None if found is None else float(found[1])


async def _submitted(client: Client, count: int) -> list[Workload]:
    """The newest ``count`` builds of the project: ours. Raises where one did not pass."""
    found: list[Workload] = []
    cursor: str | None = None
    while len(found) < count:
        limit = min(_PAGE, count - len(found))
        page = await client.workloads(project=PROJECT, limit=limit, cursor=cursor)
        found += page.workloads
        cursor = page.next_cursor
        if cursor is None:
            break
    if len(found) != count or not all(one.passed for one in found):
        passed = sum(one.passed for one in found)
        raise StoreAway(
            f"{passed} of {count} builds passed: is the service started with --box-driver none, "
            "and nobody else building there?"
        )
    return found


def _span(workloads: list[Workload]) -> tuple[datetime, datetime]:
    """From the first creation to the last end."""
    ends = [one.finished_at for one in workloads if one.finished_at is not None]
    return min(one.created_at for one in workloads), max(ends)


def _seconds(then: datetime, later: datetime | None) -> float:
    assert later is not None
    return (later - then).total_seconds()


def _body(branch: str) -> bytes:
    return b'{"branch":"%b"}' % branch.encode("ascii")


def _stalled(what: str) -> StoreAway:
    return StoreAway(
        f"builds do not {what}: has the service enough Boxes, is it started with "
        "--box-driver none, and does nothing else wait there?"
    )
