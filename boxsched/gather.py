"""Group commit: while one write is under way the next ones gather, and then go together."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Gather(Generic[T, R]):
    """Hands groups to ``write`` one after the other; each caller gets its own member's answer.

    Idle: one member, one write. A caller that is cancelled leaves its member in the group: what was
    begun is finished. An error of the write is every member's error.
    """

    def __init__(
        self, write: Callable[[Sequence[T]], Awaitable[Sequence[R]]], *, at_most: int
    ) -> None:
        self._write = write
        self._at_most = at_most
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, member: T) -> asyncio.Future[R]:
        """The answer to come; wait for it shielded if you may be cancelled."""
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((member, future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        while self._waiting:
            group, self._waiting = (
                self._waiting[: self._at_most],
                self._waiting[self._at_most :],
            )
            try:
                answers = await self._write([member for member, _ in group])
            except Exception as error:  # noqa: BLE001 (each caller gets it)
                _settle(group, error)
            else:
                for (_, future), answer in zip(group, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        self._task = None

    async def drain(self) -> None:
        """Returns when nothing is under way any more."""
        while self._task is not None:
            await asyncio.shield(self._task)


def _settle(group: list[tuple[T, asyncio.Future[R]]], error: Exception) -> None:
    for _, future in group:
        if not future.done():
            future.set_exception(error)
            # A caller that went away will never ask for it.
            future.exception()
