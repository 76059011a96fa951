"""Group commit: members that arrive during a write are collected and written together."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from boxsched.errors import Invalid
from boxsched.store.errors import InvariantRefused

T = TypeVar("T")
R = TypeVar("R")

Waiting = tuple[T, int, asyncio.Future[R]]  # a member, its weight, and its answer
REFUSALS = (Invalid, InvariantRefused)  # the store refused the content: nothing was written


class Gather(Generic[T, R]):
    """Passes groups to ``write`` one after the other; each caller gets its own member's answer.

    Without load, each member has its own write. If a caller is cancelled, its member is still
    written. ``weigh`` returns a member's weight; a group weighs ``weight_at_most`` at most, or has
    one member. If the write fails, every member gets the error. If the store refuses the content
    (REFUSALS), each member is written again alone, so that no member is refused because of another.
    """

    def __init__(
        self,
        write: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        at_most: int,
        weigh: Callable[[T], int] = lambda member: 1,
        weight_at_most: int | None = None,
    ) -> None:
        self._write = write
        self._at_most = at_most
        self._weigh = weigh
        self._weight_at_most = at_most if weight_at_most is None else weight_at_most
        self._waiting: deque[Waiting[T, R]] = deque()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, member: T) -> asyncio.Future[R]:
        """Return a future of the answer. Use ``asyncio.shield`` to wait for it if you may be
        cancelled.
        """
        future: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._waiting.append((member, self._weigh(member), future))
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        return future

    async def _run(self) -> None:
        while self._waiting:
            group = self._next()
            refused = await self._written(group)
            if refused and len(group) > 1:
                for one in group:
                    await self._written([one])
        self._task = None

    def _next(self) -> list[Waiting[T, R]]:
        group = [self._waiting.popleft()]
        weight = group[0][1]
        while self._waiting and len(group) < self._at_most:
            weight += self._waiting[0][1]
            if weight > self._weight_at_most:
                break
            group.append(self._waiting.popleft())
        return group

    async def _written(self, group: list[Waiting[T, R]]) -> bool:
        """Return whether the group was refused and has several members, which then have no answer
        yet.
        """
        try:
            answers = await self._write([member for member, _, _ in group])
        except REFUSALS as error:
            if len(group) > 1:
                return True
            _settle(group, error)
        except Exception as error:  # noqa: BLE001 (each caller gets it)
            _settle(group, error)
        else:
            for (_, _, future), answer in zip(group, answers, strict=True):
                if not future.done():
                    future.set_result(answer)
        return False

    async def drain(self) -> None:
        """Return when no write is running or waiting."""
        while self._task is not None:
            await asyncio.shield(self._task)


def _settle(group: list[Waiting[T, R]], error: Exception) -> None:
    for _, _, future in group:
        if not future.done():
            future.set_exception(error)
            # The caller was cancelled and will never read the error.
            future.exception()
