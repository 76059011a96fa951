"""Work that takes a while to end after it was canceled, as a job's or a database's may."""

import asyncio


class Lingering:
    """``await work()`` until it is canceled; ``ended`` some rounds of the event loop later."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended = False

    async def work(self, *_: object) -> None:
        try:
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            for _round in range(50):
                await asyncio.sleep(0)
            self.ended = True
