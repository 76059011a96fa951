"""Steps of some milliseconds, one in each round of the event loop.

A round runs all that is ready. Forty requests of 1,000 jobs each that are ready together would make
one round of 200 ms, though each takes 5 ms: everybody else would wait for it.
"""

import asyncio

HEAVY_BYTES = 8_192  # of a body
HEAVY_JOBS = 50


class Pace:
    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def step(self) -> None:
        """The caller may hold the loop for some milliseconds; first come, first served."""
        async with self._turn:
            await asyncio.sleep(0)
