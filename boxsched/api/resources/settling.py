"""Wait a short time for the engine: until it has processed what a request asked for."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

from boxsched.backoff import doubling

FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.005, 0.4

T = TypeVar("T")


def pauses() -> Iterator[float]:
    """Yield the pauses between two looks, in seconds: 0.6 s in all."""
    return doubling(FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS)


async def settled(found: T, read: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """Read again until ``holds`` is true, or the pauses are over; return what was read last.

    ``found``: what was read before.
    """
    for pause in pauses():
        if holds(found):
            break
        await asyncio.sleep(pause)
        found = await read()
    return found
