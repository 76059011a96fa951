"""Compute when waiting workloads are expected to start; in a thread, shared between requests.

A forecast takes some tenths of a second, and one run answers for any number of workloads. At most
one run is active; all requests that arrive during it share the next one. So the work does not grow
with the number of requests.
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
    """One forecast for all workloads that were requested before it began."""

    ids: set[WorkloadId] = attrs.field(factory=set)
    starts: asyncio.Task[dict[WorkloadId, float]] | None = None


class Forecasts:
    """``books``: returns the shard's current books."""

    def __init__(self, books: Callable[[], Awaitable[Books]], clock: Clock) -> None:
        self._books = books
        self._clock = clock
        self._next: _Run | None = None  # not begun
        self._last: _Run | None = None

    async def start(self, workload: WorkloadId) -> float | None:
        """Return when the workload is expected to start, in seconds since 1970.

        None if it can never start, no longer waits, or if too many workloads wait. Raises
        StoreAway.
        """
        run = self._next
        if run is None:
            run = self._next = _Run()
            run.starts = asyncio.create_task(self._answer(run, self._last), name="forecast")
            run.starts.add_done_callback(_mark_read)
        run.ids.add(workload)
        assert run.starts is not None
        # Shielded, so that one cancelled caller does not cancel the answer for the others.
        return (await asyncio.shield(run.starts)).get(workload)

    async def _answer(self, run: _Run, before: _Run | None) -> dict[WorkloadId, float]:
        if before is not None and before.starts is not None:
            await asyncio.wait({before.starts})
        self._last, self._next = run, None  # later requests get another run
        books = await self._books()
        ahead = outlook(books.core, max(self._clock.now(), books.latest))
        if ahead is None:
            return {}
        del books  # so that they can be freed
        return await asyncio.to_thread(ahead.expected_starts, run.ids)


def _mark_read(task: asyncio.Task[dict[WorkloadId, float]]) -> None:
    """Mark the error as read: all callers that wait for it may be cancelled."""
    if not task.cancelled():
        task.exception()
