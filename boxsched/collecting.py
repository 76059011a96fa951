"""When Python's garbage collector runs, so that no collection holds the event loop for long.

A collection holds the whole process, about 0.25 ms for 1,000 objects. Python's default looks at
every object of the heap again and again: with 100,000 waiting workloads that takes 120 ms and
more. Here a collection looks at what is new only:

1. Python collects young objects by itself, THRESHOLDS[0] at a time.
2. An object that survived three collections is *frozen* (``gc.freeze``): the collector does not
   look at it any more. It is still freed as soon as nothing refers to it, as nearly all are.
3. What is frozen and becomes garbage in a reference cycle stays, until a *whole* collection. That
   is made once every WHOLE_SECONDS, under load after FREEZES_AT_MOST freezes, and when the process
   has been quiet for a second: it is the only one that takes time in proportion to the heap.

The scheduling core breaks its own cycles when a workload ends; those of a core that is no longer
used are broken by ``discarding``, and by a forecast. So a whole collection finds little, and may
be rare.
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
FREEZES_AT_MOST = 400  # some 10 million objects: then a whole collection does not wait that long
GARBAGE_LOOK_SECONDS = 10.0
QUIET_SECONDS = 1.0
QUIET_SHARE = 0.05  # of a processor, in a quiet second
PATIENCE_SECONDS = 600.0  # to wait for one; a process that is never quiet collects then

_log = logging.getLogger(__name__)


class Collector:
    """For the whole process, from ``begin`` to ``end``: the collector has one setting."""

    def __init__(self) -> None:
        self._before = gc.get_threshold()
        self._freezes = 0  # since the last whole collection

    def begin(self) -> None:
        gc.set_threshold(*THRESHOLDS)
        gc.callbacks.append(self._collected)

    def end(self) -> None:
        gc.callbacks.remove(self._collected)
        gc.set_threshold(*self._before)
        gc.unfreeze()

    def settle(self) -> None:
        """Freeze all that there is: the program is loaded, and will stay."""
        self.collect_whole()

    async def run(self) -> None:
        """A whole collection from time to time, until cancelled."""
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
        """Look at every object; returns how many were garbage."""
        gc.unfreeze()
        found = gc.collect()
        # Python's next one waits for new objects, a quarter of what the last one left: now nothing.
        gc.collect()
        self._freezes = 0
        return found

    async def _quiet(self) -> None:
        """Wait for a second in which the process does next to nothing."""
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
