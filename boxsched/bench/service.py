"""Load a running service, and measure it by its own timestamps and by ours.

First one build checks that the Boxes run nothing. Then the idle service is measured: builds one at
a time, from the submission to the start. Then comes the load: builds as fast as they are accepted,
each on a separate branch so that lanes do not delay them, with clients spread over the nodes; it
ends when all have finished. Meanwhile the nodes' figures are requested every 0.5 s, which costs
very little. The builds' own times are read afterwards.
"""

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime

import attrs
import msgspec

from boxsched.bench.counted import Counted, counted, refuse_uncounted
from boxsched.bench.figures import resident_mib, spread
from boxsched.bench.load import BenchTarget, Load, Single
from boxsched.client import Client, Workload
from boxsched.errors import Invalid, StoreAway

PROJECT = "bench"
IDLE_BUILDS = 200
POLL_SECONDS = 0.5
STALLED_SECONDS = 60.0  # without a finished build, the run is stopped as stalled
_PAGE = 200
OF_JOBS = frozenset({"tell", "run", "report"})  # stages of single jobs
_PATH = f"/api/v1/projects/{PROJECT}/builds"


@attrs.frozen
class Plan:
    builds: int | None  # None: as many as are accepted in ``seconds``
    seconds: float
    jobs: int
    concurrency: int

    @property
    def connections(self) -> int:
        return min(self.concurrency, self.builds or self.concurrency)

    def bodies(self, run: str) -> Iterator[bytes]:
        """Yield the bodies of the load's submissions; the time starts with the first."""
        until = time.perf_counter() + self.seconds
        number = 0
        while number < self.builds if self.builds is not None else time.perf_counter() < until:
            yield _body(f"load-{run}-{number:07}")
            number += 1


@attrs.frozen
class BenchNodes:
    """The measured nodes of one service. Requests about the whole service go to the first."""

    clients: Sequence[Client]
    targets: Sequence[BenchTarget]

    @property
    def client(self) -> Client:
        return self.clients[0]


class _Id(msgspec.Struct):
    id: str


async def measure(
    nodes: BenchNodes, plan: Plan, pid: int | None, say: Callable[[str], None]
) -> dict[str, object]:
    """Return all figures of the service. Raises StoreAway if the builds do not end."""
    client = nodes.client
    await refuse_uncounted(nodes.clients)
    names = [f"job-{number + 1}" for number in range(plan.jobs)]
    jobs = [{"name": name, "commands": ["false"]} for name in names]
    await client.put_project(PROJECT, {"jobs": jobs})
    await refuse_real_jobs(client)
    run = secrets.token_hex(4)
    say(f"idle service: {IDLE_BUILDS} builds, one at a time")
    idle = await _idle(client, nodes.targets[0], run)
    say(f"load: builds of {plan.jobs} jobs over {plan.concurrency} connections")
    loaded = await loaded_with(nodes, Load(_PATH, plan.bodies(run)), plan.connections)
    builds = len(loaded.load.seconds)
    say("reading the builds' times")
    began, ended = _span(await _submitted(client, builds))
    seconds = (ended - began).total_seconds()
    boxes = len(await client.boxes())
    return {
        "nodes": len(nodes.clients),
        "builds": builds,
        "jobs_per_build": plan.jobs,
        "concurrency": plan.concurrency,
        "boxes": boxes,
        "idle_boxes_on_average": loaded.idle_boxes(boxes),
        "load_seconds": round(loaded.load.took, 2),
        "submissions_per_second": round(builds / loaded.load.took, 1),
        "finished_builds_per_second": round(builds / seconds, 1),
        "jobs_per_second": round(builds * plan.jobs / seconds, 1),
        "latency_ms": spread(loaded.load.seconds),
        "submit_to_start_ms": idle,
        "time_of_a_build_ms": loaded.stages_ms(builds, plan.jobs),
        "longest_loop_hold_ms": round(loaded.after.loop_hold_seconds * 1000, 1),
        "peak_memory_mib": loaded.peak_mib(pid),
        **loaded.by_batch(),
    }


async def refuse_real_jobs(client: Client) -> None:
    """Raise Invalid if the Boxes run jobs. The test job is the command ``false``, which passes only
    if nothing is run.
    """
    try:
        async with asyncio.timeout(STALLED_SECONDS):
            made = await client.build(PROJECT, branch="are-the-boxes-for-bench")
            ended = await client.wait(made.id)
    except TimeoutError:
        raise _stalled("start") from None
    if not ended.passed:
        raise Invalid(
            "the Boxes of this service run real jobs, but bench measures only the scheduler: "
            "start its nodes and workers with --box-driver none"
        )


# --- The idle service -------------------------------------------------------------------------


class _Heard:
    """Records when each event of each workload arrived here."""

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


async def _idle(client: Client, target: BenchTarget, run: str) -> dict[str, object]:
    """Measure from the submission to the start, by the workloads' own times and by ours."""
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


@attrs.frozen
class Loaded:
    """The load, and the nodes' counters before it and after all of it had finished."""

    load: Load
    before: Counted
    after: Counted
    peak: float
    seconds: float  # between the two

    def peak_mib(self, pid: int | None) -> float | None:
        """Return the peak memory of the largest node; the peak of process ``pid`` may be higher
        than seen.
        """
        own = None if pid is None else resident_mib(pid, "VmHWM")
        return max(round(self.peak, 1), own or 0.0) or None

    def idle_boxes(self, boxes: int) -> float:
        """Return how many of ``boxes`` were idle on average, from the first submission to the last
        seen end.
        """
        busy = self.after.busy_box_seconds - self.before.busy_box_seconds
        return round(max(0.0, boxes - busy / self.seconds), 2)

    def stages_ms(self, builds: int, jobs: int) -> dict[str, float]:
        """Return the average time of a build in each stage; for stages of jobs, the average of the
        jobs.
        """
        return {
            name: round(
                1000
                * (seconds - self.before.stages.get(name, 0.0))
                / (builds * (jobs if name in OF_JOBS else 1)),
                3,
            )
            for name, seconds in self.after.stages.items()
        }

    def by_batch(self) -> dict[str, object]:
        """Return the round trips for each batch; None if the database is not a server."""
        batches = self.after.batches - self.before.batches
        trips = self.after.round_trips - self.before.round_trips
        return {"round_trips_per_batch": round(trips / batches, 3)} if trips and batches else {}


async def loaded_with(nodes: BenchNodes, load: Load, connections: int) -> Loaded:
    """Run the load, in which each request creates a build, until all builds have finished."""
    await asyncio.sleep(POLL_SECONDS)  # wait until the end of the last idle build is counted
    before, began = await counted(nodes.clients), time.perf_counter()
    running = asyncio.create_task(load.run(nodes.targets, connections))
    finished, peak, stalled = 0, 0.0, 0.0
    try:
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if running.done():
                running.result()
            now = await counted(nodes.clients)
            now_finished = round(now.finished - before.finished)
            stalled = stalled + POLL_SECONDS if now_finished == finished else 0.0
            finished, peak = now_finished, max(peak, now.resident_mib)
            if running.done() and finished >= len(load.seconds):
                return Loaded(load, before, now, peak, time.perf_counter() - began)
            if stalled > STALLED_SECONDS:
                raise _stalled("finish")
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _submitted(client: Client, count: int) -> list[Workload]:
    """Return the newest ``count`` builds of the project, which are ours. Raises if one did not
    pass.
    """
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
            f"{passed} of {count} builds passed: start the service with --box-driver none, and "
            "submit no other builds"
        )
    return found


def _span(workloads: list[Workload]) -> tuple[datetime, datetime]:
    """Return the time from the first creation to the last end."""
    ends = [one.finished_at for one in workloads if one.finished_at is not None]
    return min(one.created_at for one in workloads), max(ends)


def _seconds(then: datetime, later: datetime | None) -> float:
    assert later is not None
    return (later - then).total_seconds()


def _body(branch: str) -> bytes:
    return b'{"branch":"%b"}' % branch.encode("ascii")


def _stalled(what: str) -> StoreAway:
    return StoreAway(
        f"builds do not {what}: check that the service has enough Boxes, was started with "
        "--box-driver none, and has no other waiting workloads"
    )
