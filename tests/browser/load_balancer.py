"""An address that leads to a node, like a load balancer's; tests change the node or remove it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from tests.browser.service import Service
from tests.faults.proxy import Proxy

Ask = Callable[[Awaitable[None]], None]


@contextmanager
def load_balancer(node: Service) -> Iterator[tuple[Proxy, Ask]]:
    """A proxy to that node, and a function that runs its coroutines."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def ask(what: Awaitable[None]) -> None:
        async def done() -> None:
            await what

        asyncio.run_coroutine_threadsafe(done(), loop).result(timeout=20)

    proxy = Proxy(node.port)
    ask(proxy.start())
    try:
        yield proxy, ask
    finally:
        ask(proxy.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
