"""Standard input and output for asyncio, whatever they are: files, pipes or terminals.

Both are read and written in threads, since asyncio cannot wait for regular files.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator

from boxsched import tunnelling
from boxsched.cli.clean import plain

CHUNK_BYTES = 64 << 10


async def read_input() -> AsyncIterator[bytes]:
    """Yield standard input until its end. One read is ahead of the consumer, no more."""
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes] = asyncio.Queue()
    room = threading.Semaphore(2)

    def read() -> None:
        while True:
            room.acquire()
            try:
                data = os.read(0, CHUNK_BYTES)
            except OSError:
                data = b""
            try:
                loop.call_soon_threadsafe(chunks.put_nowait, data)
            except RuntimeError:
                return  # the loop has ended
            if not data:
                return

    # A daemon: a read of a terminal must not keep the command alive.
    threading.Thread(target=read, name="standard input", daemon=True).start()
    while data := await chunks.get():
        yield data
        room.release()


async def write_output(descriptor: int, data: bytes) -> None:
    """Write all of it; raises OSError. The caller waits, and so does what fills it."""
    await asyncio.to_thread(_write, descriptor, data)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


async def join_stdio(tunnel: tunnelling.TunnelSocket) -> str | None:
    """Carry bytes between the tunnel and standard input and output until one ends.

    Return why the tunnel was lost; None if an end closed it.
    """

    async def out() -> None:
        async for data in read_input():
            await tunnel.send_bytes(data)

    async def back() -> None:
        while (data := await tunnelling.received(tunnel)) is not None:
            await write_output(1, data)

    return await tunnelling.until_one_ends(out(), back(), tunnelling.keep_alive(tunnel))


def lost_text(workload: str, why: str) -> str:
    """Return what a user reads whose way into a session was lost."""
    return f"lost the connection to the session {workload}: {plain(why)}"
