"""Free large structures in small steps when they are no longer used.

Books with 100,000 workloads take 0.1 s to free, and contain reference cycles that only the garbage
collector would find. The code that makes such books registers how to take them apart
(``when_unused``). The node's background task (``run``) does it, between other work.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import Iterator

# In a process without this task (a command, a test) the garbage collector frees them.
KEPT_AT_MOST = 8
DISCARDED_LOOK_SECONDS = 0.5

_discarded: deque[Iterator[None]] = deque(maxlen=KEPT_AT_MOST)


def when_unused(owner: object, parts: Iterator[None]) -> None:
    """Run ``parts`` to its end, one step at a time, when nothing refers to ``owner`` any more. Each
    step must be short, and ``parts`` must not refer to the owner.
    """
    weakref.finalize(owner, _discarded.append, parts).atexit = False


async def run() -> None:
    """Run until cancelled."""
    while True:
        await asyncio.sleep(DISCARDED_LOOK_SECONDS)
        await run_once()


async def run_once() -> None:
    while _discarded:
        parts = _discarded.popleft()
        for _ in parts:
            await asyncio.sleep(0)
