"""When waiting workloads are expected to start: computed in a thread, for all who ask at once.

A forecast takes some tenths of a second. One run ahead answers for any number of workloads. So at
most one run is under way, and all who ask meanwhile share the next one: the work does not grow with
the number of requests.
"""

import asyncio
from collections.abc import Awaitable, Callable

import attrs

from boxsched.clock import Clock
from boxsched.engine.books import Books
from boxsched.model import WorkloadId
from boxsched.scheduling.prediction import outlook


@attrs.define(eq=False)
class _Run:
    """One run ahead: of all workloads that were asked about before it began."""

    ids: set[WorkloadId] = attrs.field(factory=set)
    starts: asyncio.Task[dict[WorkloadId, float]] | None = None


class Forecasts:
    """``books``: the shard's, at the moment that it is called."""

    def __init__(self, books: Callable[[], Awaitable[Books]], clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._next: _Run | None = None  # not begun yet
        self._last: _Run | None = None

    async def start(self, workload: WorkloadId) -> float | None:
        """When it starts, as of a moment after the call. None where it never would, does not wait
        any more, or where too many wait. Raises StoreAway."""
        run = self._next
        if run is None:
            run = self._next = _Run()
            run.starts = asyncio.create_task(self._answer(run, self._last), name="forecast")
            run.starts.add_done_callback(_heard)
        run.ids.add(workload)
        assert run.starts is not None
        # Shielded: a caller that goes away must not take the answer from the others.
        return (await asyncio.shield(run.starts)).get(workload)

    async def _answer(self, run: _Run, before: _Run | None) -> dict[WorkloadId, float]:
        if before is not None and before.starts is not None:
            await asyncio.wait({before.starts})
        self._last, self._next = run, None  # who asks from now on waits for another
        books = await self._books()
        ahead = outlook(books.core, max(self._clock.now(), books.latest))
        if ahead is None:
            return {}
        del books  # not kept from being freed
        return await asyncio.to_thread(ahead.expected_starts, run.ids)


def _heard(task: asyncio.Task[dict[WorkloadId, float]]) -> None:
    """Its error is for those who wait; perhaps all of them have gone away."""
    if not task.cancelled():
        task.exception()
