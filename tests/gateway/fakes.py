"""Values and a fake socket for tests of the gateway's parts."""

import asyncio

from aiohttp import WSCloseCode

from boxsched.gateway.figures import Times
from boxsched.gateway.worker_socket import Slow
from boxsched.model import WorkerId
from boxsched.protocol import wire
from boxsched.store.records import Token
from tests.contract.store_data import NOW

ME = WorkerId(1)
HELLO = wire.Hello(wire.VERSION, "own w", "w", ("default",), "", "")
TOKEN = Token("token-1", "its digest", "worker", "", NOW)
AT_ONCE = Times(first_retry=0.0, longest_retry=0.0)


class FakeSocket:
    """Accepts messages when ``takes`` is set."""

    def __init__(self) -> None:
        self.sent: list[list[wire.FromNode]] = []
        self.takes = asyncio.Event()
        self.asked = asyncio.Event()
        self.cuts = 0
        self.hung_up: list[tuple[int, str]] = []
        self.slow = False

    async def send(self, texts: list[bytes]) -> None:
        self.asked.set()
        if self.slow:
            raise Slow("for the test")
        await self.takes.wait()
        self.sent.append([wire.from_node.decode(text) for text in texts])

    async def hang_up(self, code: WSCloseCode, reason: str) -> None:
        self.hung_up.append((code, reason))

    def cut(self) -> None:
        self.cuts += 1

    address = "192.0.2.7"
    gone = False
