"""Waiting for an event by polling; never for a time to pass."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_SECONDS = 0.02
GENEROUS_SECONDS = 60.0  # no test depends on speed: this only ends a test that hangs


async def until(
    look: Callable[[], Awaitable[T | None]], what: str, *, within: float = GENEROUS_SECONDS
) -> T:
    """Return the first true value that ``look`` returns."""
    found: T | None = None
    try:
        async with asyncio.timeout(within):
            while not (found := await look()):  # noqa: ASYNC110 (other processes set no events)
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise AssertionError(f"not within {within:g} s: {what}; last seen: {found!r}") from None
    return found


async def until_true(
    condition: Callable[[], bool], what: str, *, within: float = GENEROUS_SECONDS
) -> None:
    async def look() -> bool:
        return condition()

    await until(look, what, within=within)


async def until_none(
    count: Callable[[], Awaitable[int]], what: str, *, patience: float = GENEROUS_SECONDS
) -> None:
    """Return when none is left; the time limit starts again whenever the number reaches a new
    minimum."""
    loop = asyncio.get_running_loop()
    least, until_ = await count(), loop.time() + patience
    while least:
        await asyncio.sleep(5 * POLL_SECONDS)
        now = await count()
        if now < least:
            least, until_ = now, loop.time() + patience
        elif loop.time() > until_:
            raise AssertionError(f"for {patience:g} s no fewer than {least}: {what}; now {now}")
