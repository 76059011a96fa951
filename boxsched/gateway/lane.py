"""One worker's messages of one kind, stored in order."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from boxsched.errors import StoreAway
from boxsched.gateway.figures import Times

MAX_WAITING_BYTES = 1 << 20
LEAST_BYTES = 1 << 10  # what a message counts at least: so there are never too many

M = TypeVar("M")
A = TypeVar("A")
R = TypeVar("R")


class Lane(Generic[M]):
    """What comes while a write is under way gathers, and goes with the next one."""

    def __init__(self, store: Callable[[list[M]], Awaitable[None]], times: Times) -> None:
        self._store = store
        self._times = times
        self._waiting: list[M] = []
        self._bytes = 0
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()

    async def put(self, message: M, size: int) -> None:
        """Waits while too much waits already."""
        size = max(size, LEAST_BYTES)
        while self._waiting and self._bytes + size > MAX_WAITING_BYTES:
            self._taken.clear()
            await self._taken.wait()
        self._waiting.append(message)
        self._bytes += size
        self._filled.set()

    async def run(self) -> None:
        while True:
            await self._filled.wait()
            self._filled.clear()
            group, self._waiting = self._waiting, []
            self._bytes = 0
            self._taken.set()
            await insist(self._store, group, self._times)


async def insist(write: Callable[[A], Awaitable[R]], what: A, times: Times) -> R:
    """For what may be repeated: again and again while the store is away."""
    wait = times.first_retry
    while True:
        try:
            return await write(what)
        except StoreAway:
            pass
        await asyncio.sleep(wait)
        wait = min(2 * wait, times.longest_retry)
