"""Run steps of a few milliseconds, one in each round of the event loop.

A round runs everything that is ready. If 40 requests with 1,000 jobs each are ready at once, one
round takes 200 ms, although each takes 5 ms, and everything else waits.
"""

import asyncio

HEAVY_BYTES = 8_192  # size of a request's body
HEAVY_JOBS = 50


class LoopPace:
    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def step(self) -> None:
        """Wait until the caller may block the loop for a few milliseconds; callers go in their
        order.
        """
        async with self._turn:
            await asyncio.sleep(0)
