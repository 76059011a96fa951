"""Group commit: members that arrive during a write are collected, and written together next."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from boxsched.errors import Invalid
from boxsched.store.errors import InvariantRefused

T = TypeVar("T")
R = TypeVar("R")

Waiting = tuple[T, int, asyncio.Future[R]]  # a member, its weight, and its answer
REFUSALS = (Invalid, InvariantRefused)  # nothing was done, and nothing will be, as it is


class Gather(Generic[T, R]):
    """Hands groups to ``write`` one after the other; each caller gets its own member's answer.

    Idle: one member, one write. A caller that is cancelled leaves its member in the group: what was
    begun is finished. ``weigh``: what a member weighs; a group has ``weight_at_most`` in all, or is
    one member. An error of the write is every member's error; but where the store refuses what is
    in it (REFUSALS), each member is written alone, so that no member is refused for another.
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
        """The answer to come; wait for it shielded if you may be cancelled."""
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
        """Whether a group of several was refused: then nobody has an answer yet."""
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
        """Returns when nothing is under way any more."""
        while self._task is not None:
            await asyncio.shield(self._task)


def _settle(group: list[Waiting[T, R]], error: Exception) -> None:
    for _, _, future in group:
        if not future.done():
            future.set_exception(error)
            # A caller that went away will never ask for it.
            future.exception()
