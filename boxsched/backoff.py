"""Pauses that double: between attempts that failed, and between checks of something slow."""

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

A = TypeVar("A")
R = TypeVar("R")


class Backoff:
    """Pauses in seconds: ``first``, then twice the last one, at most ``longest``.

    If many callers may pause at the same time, each multiplies its pause by a random number
    ("jitter"), so that they do not all try again at the same moment.
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
        """Start with ``first`` again, after a success."""
        self._pause = self._first


def doubling(first: float, last: float) -> Iterator[float]:
    """Yield ``first``, ``2 * first`` and so on, in seconds, up to ``last``."""
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
