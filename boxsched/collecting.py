"""Run Python's garbage collector in a way that never blocks the event loop for long.

A collection blocks the whole process, about 0.25 ms for 1,000 objects. By default Python scans the
whole heap repeatedly: with 100,000 waiting workloads that takes 120 ms and more. Here a collection
scans only new objects:

1. Python collects young objects automatically, THRESHOLDS[0] at a time.
2. An object that survived three collections is *frozen* (``gc.freeze``): the collector no longer
   scans it. It is still freed as soon as nothing refers to it, like almost all objects.
3. A frozen object that becomes garbage in a reference cycle stays until a *whole* collection. It
   runs once every WHOLE_SECONDS, under load after FREEZES_AT_MOST freezes, and waits for a quiet
   second, because its duration is proportional to the heap.

The scheduling core breaks its own cycles when a workload ends. ``discarding`` and forecasts break
those of a core that is no longer used. So a whole collection finds little and can be rare.
"""

import asyncio
import gc
import logging
import time
from typing import Any

# The number of objects, then of collections of the younger generation. One collection has at most
# about 25,000 objects.
THRESHOLDS = (1_500, 4, 2)
WHOLE_SECONDS = 3_600.0
# about 10 million objects; then a whole collection does not wait for WHOLE_SECONDS
FREEZES_AT_MOST = 400
GARBAGE_LOOK_SECONDS = 10.0
QUIET_SECONDS = 1.0
QUIET_SHARE = 0.05  # in a quiet second the process uses less than this share of a processor
PATIENCE_SECONDS = 600.0  # longest wait for a quiet second

_log = logging.getLogger(__name__)


class Collector:
    """Controls the collector of the whole process, from ``begin`` to ``end``."""

    def __init__(self) -> None:
        self._before = gc.get_threshold()
        self._freezes = 0  # number of freezes since the last whole collection

    def begin(self) -> None:
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(self._collected)

    def end(self) -> None:
        gc.callbacks.remove(self._collected)
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def settle(self) -> None:
        """Freeze all objects that exist: the loaded program stays in memory."""
        self.collect_whole()

    async def run(self) -> None:
        """Run whole collections at intervals, until cancelled."""
        last = time.monotonic()
        while True:
            await asyncio.sleep(GARBAGE_LOOK_SECONDS)
            late = time.monotonic() - last >= WHOLE_SECONDS
            if not (late and self._freezes) and self._freezes < FREEZES_AT_MOST:
                continue
            await self._quiet()
            began = time.perf_counter()
            found = self.collect_whole()
            last = time.monotonic()
            took = (time.perf_counter() - began) * 1e3
            _log.info("garbage collection: %d objects freed in %.0f ms", found, took)

    def collect_whole(self) -> int:
        """Scan all objects; return the number that were garbage."""
        gc.unfreeze()
        found = gc.collect()
        # Python's next collection waits for new objects: a quarter of what the last one left, now
        # 0.
        gc.collect()
        self._freezes = 0
        return found

    async def _quiet(self) -> None:
        """Wait for a second in which the process is almost idle."""
        ends = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < ends:
            before = time.process_time()
            await asyncio.sleep(QUIET_SECONDS)
            if time.process_time() - before < QUIET_SHARE * QUIET_SECONDS:
                return

    def _collected(self, phase: str, info: dict[str, Any]) -> None:
        """Called by Python at the beginning and the end of each collection."""
        if phase == "stop" and info["generation"] == 2:
            gc.freeze()
            self._freezes += 1
