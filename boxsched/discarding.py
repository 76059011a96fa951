"""Large structures are freed a slice at a time when nobody uses them any more.

A shard's books with 100,000 workloads take a tenth of a second to free, and refer to themselves:
the garbage collector would have to find them. Whoever makes such books says how they are taken
apart (``when_unused``); the node's chore (``run``) does it, between other work.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import Iterator

# A process without the chore (a command, a test) leaves them to the garbage collector.
KEPT_AT_MOST = 8
DISCARDED_LOOK_SECONDS = 0.5

_discarded: deque[Iterator[None]] = deque(maxlen=KEPT_AT_MOST)


def when_unused(owner: object, parts: Iterator[None]) -> None:
    """Run ``parts`` to its end, a step at a time, once nothing refers to ``owner``. Each step must
    be short; ``parts`` must not refer to the owner."""
    weakref.finalize(owner, _discarded.append, parts).atexit = False


async def run() -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(DISCARDED_LOOK_SECONDS)
        await run_once()


async def run_once() -> None:
    while _discarded:
        parts = _discarded.popleft()
        for _ in parts:
            await asyncio.sleep(0)
