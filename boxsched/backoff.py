"""Pauses that double: between tries of what failed, and between looks at what takes time."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Backoff:
    """Pauses in seconds: ``first``, then twice the last one, at most ``longest``.

    Where many callers may pause at the same time, the caller multiplies a pause with a random
    number ("jitter"), so that they do not all return in one moment.
    """

    def __init__(self, first: float, longest: float = math.inf) -> None:
        assert 0 <= first <= longest
        self._first = self._pause = first
        self._longest = longest

    def next(self) -> float:
        pause = self._pause
        self._pause = min(2 * pause, self._longest)
        return pause

    def reset(self) -> None:
        """Begin with ``first`` again, after a success."""
        self._pause = self._first


def doubling(first: float, last: float) -> Iterator[float]:
    """``first``, ``2 * first`` and so on, in seconds; ends before a pause longer than ``last``."""
    pause = first
    while pause <= last:
        yield pause
        pause *= 2


async def repeat(
    call: Callable[[A], Awaitable[R]], argument: A, backoff: Backoff, *, on: type[Exception]
) -> R:
    """Call until it succeeds, pausing after each error of the type ``on``; return its answer.

    Only for a call that may be repeated without harm. Other errors are raised at once.
    """
    while True:
        try:
            return await call(argument)
        except on:
            pass
        await asyncio.sleep(backoff.next())
