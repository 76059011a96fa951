"""One worker's messages of one kind, waiting to be stored in the order of arrival."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from boxsched.backoff import repeat
from boxsched.errors import StoreAway
from boxsched.gateway.figures import Times

MAX_WAITING_BYTES = 1 << 20
LEAST_BYTES = 1 << 10  # a smaller message counts as this many bytes, which bounds their number

M = TypeVar("M")


class MessageQueue(Generic[M]):
    """Messages that arrive during a write are collected, and stored together by the next write."""

    def __init__(self, store: Callable[[list[M]], Awaitable[None]], times: Times) -> None:
        self._store = store
        self._times = times
        self._waiting: list[M] = []
        self._bytes = 0
        self._filled = asyncio.Event()
        self._taken = asyncio.Event()

    async def put(self, message: M, size: int) -> None:
        """Wait while MAX_WAITING_BYTES are queued; then queue ``message``, of ``size`` bytes."""
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
            await repeat(self._store, group, self._times.retries(), on=StoreAway)
