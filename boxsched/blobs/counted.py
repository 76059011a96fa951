"""Count what a log store is asked, for ``/metrics``."""

import time
from collections import Counter
from collections.abc import Awaitable
from typing import TypeVar

import attrs

from boxsched.blobs.places import ContentGone, LogStore
from boxsched.errors import StoreAway

T = TypeVar("T")

OPERATIONS = ("read", "append", "finish", "write", "abandon", "remove", "length", "list", "sweep")
WITH_BYTES = ("read", "append", "write")


@attrs.define
class StoreFigures:
    """By operation. ``failures``: the store did not answer, or did not have the file.

    ``bytes``: of contents that were read or stored.
    """

    requests: Counter[str] = attrs.field(factory=Counter)
    failures: Counter[str] = attrs.field(factory=Counter)
    seconds: dict[str, float] = attrs.field(factory=lambda: dict.fromkeys(OPERATIONS, 0.0))
    bytes: Counter[str] = attrs.field(factory=Counter)


class CountedStore:
    """A log store whose calls are counted; otherwise the same."""

    def __init__(self, store: LogStore) -> None:
        self._store = store
        self.name = store.name
        self.read_bytes = store.read_bytes
        self.figures = StoreFigures()

    async def _count(self, operation: str, work: Awaitable[T]) -> T:
        figures, began = self.figures, time.monotonic()
        figures.requests[operation] += 1
        try:
            return await work
        except (StoreAway, ContentGone):
            figures.failures[operation] += 1
            raise
        finally:
            figures.seconds[operation] += time.monotonic() - began

    async def open(self, cluster: str) -> bool:
        return await self._store.open(cluster)

    async def owner(self) -> str | None:
        return await self._store.owner()

    async def close(self) -> None:
        await self._store.close()

    async def append(self, file: str, offset: int, data: bytes) -> int:
        end = await self._count("append", self._store.append(file, offset, data))
        self.figures.bytes["append"] += len(data)
        return end

    async def finish(self, file: str, size: int, sha256: str) -> None:
        await self._count("finish", self._store.finish(file, size, sha256))

    async def write(self, file: str, data: bytes, sha256: str) -> None:
        await self._count("write", self._store.write(file, data, sha256))
        self.figures.bytes["write"] += len(data)

    async def abandon(self, file: str) -> None:
        await self._count("abandon", self._store.abandon(file))

    async def read(self, file: str, offset: int, limit: int) -> bytes:
        data = await self._count("read", self._store.read(file, offset, limit))
        self.figures.bytes["read"] += len(data)
        return data

    async def remove(self, file: str) -> None:
        await self._count("remove", self._store.remove(file))

    async def length(self, file: str) -> int | None:
        return await self._count("length", self._store.length(file))

    async def old_files(self, after: str, before: float) -> tuple[list[str], str | None]:
        return await self._count("list", self._store.old_files(after, before))

    async def remove_old_uploads(self, before: float) -> int:
        return await self._count("sweep", self._store.remove_old_uploads(before))
