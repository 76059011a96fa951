"""Measures how long the event loop is held at most, and by which task.

The figures are seconds of CPU time of the loop's thread, so a busy machine changes little. Run by
hand: ``python -m tests.loop_hold [--database URL]`` requests all large answers from a service and
prints the longest holds. It works with asyncio's own loop only; uvloop offers no way to observe it.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from boxsched.collecting import Collector
from tests.service.running_service import RunningService, job


@attrs.define
class Holds:
    """The longest holds since the last ``reset``, with the task that caused each."""

    seconds: float = 0.0
    what: str = ""

    def reset(self) -> None:
        self.seconds, self.what = 0.0, ""

    def note(self, seconds: float, handle: asyncio.Handle) -> None:
        if seconds > self.seconds:
            self.seconds, self.what = seconds, _named(handle)


def _named(handle: Any) -> str:
    """Return the task of the step, with the line at which it waits now; else the callback."""
    task = getattr(handle._callback, "__self__", None)
    if not isinstance(task, asyncio.Task):
        return repr(handle._callback)
    frames = task.get_stack(limit=1)
    place = f" at {frames[0].f_code.co_qualname}:{frames[0].f_lineno}" if frames else ""
    return f"{task.get_coro()!r}{place}"


@contextlib.contextmanager
def watched() -> Iterator[Holds]:
    """Measure every step of the loop while the body runs."""
    holds = Holds()
    run = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        began = time.thread_time()
        run(handle)
        holds.note(time.thread_time() - began, handle)

    asyncio.Handle._run = timed  # type: ignore[method-assign]
    try:
        yield holds
    finally:
        asyncio.Handle._run = run  # type: ignore[method-assign]


class ConnectionLoop:
    """Request large answers from a service, and report the longest hold after each."""

    def __init__(self, service: RunningService, holds: Holds) -> None:
        self.service = service
        self.holds = holds

    def say(self, what: str, began: float) -> None:
        took = time.perf_counter() - began
        print(f"{self.holds.seconds * 1e3:7.1f} ms  {what} ({took:.2f} s): {self.holds.what}")
        self.holds.reset()

    async def all(self) -> None:
        service = self.service
        await service.project(jobs=[job("test")])
        await self._posts("40 builds of 1,000 jobs", 40, _wide(1_000, 1))
        await self._posts("100 bodies of 1 MB", 100, _wide(10, 90_000))
        await self._posts("2,000 builds", 2_000, {})
        for path in (
            "/workloads?limit=200",
            "/activity",
            "/projects",
            "/boxes",
            "/events?after=1.1.0",
        ):
            await self._get(path)
        listed = (await service.get("/workloads?limit=1"))["workloads"]
        await self._get(f"/workloads/{listed[0]['id']}/explanation")
        await self._get(f"/workloads/{listed[0]['id']}")
        for n in range(30):
            await service.project(f"p{n}", jobs=[job("x", "y" * 900_000)])
        await self._get("/projects")
        began = time.perf_counter()
        await service.node.leadership.engines[1].load()
        self.say("a load", began)

    async def _posts(self, what: str, count: int, asked: dict[str, Any]) -> None:
        self.holds.reset()
        began = time.perf_counter()
        built = await asyncio.gather(
            *(self.service.build(branch=f"{what} {n}", **asked) for n in range(count))
        )
        self.say(what, began)
        await self.service.until(built[-1]["id"], state="queued")
        self.say(f"{what}: the engine", began)

    async def _get(self, path: str) -> None:
        self.holds.reset()
        began = time.perf_counter()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(2.0 if "events" in path else 60.0):
                await self.service.get(path)
        self.say(path, began)


def _wide(count: int, size: int) -> dict[str, Any]:
    return {"jobs": [job(f"j{n}", "x" * size) for n in range(count)]}


async def _main(database: str | None) -> None:
    collector = Collector()  # as in ``serve``
    collector.begin()
    with tempfile.TemporaryDirectory() as folder:
        async with RunningService.open(Path(folder), boxes=0, database=database) as service:
            collector.settle()
            with watched() as holds:
                await ConnectionLoop(service, holds).all()


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--database", metavar="URL", help="an empty one [default: SQLite]")
    asyncio.run(_main(options.parse_args().database))
