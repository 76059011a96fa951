"""The write buffer of a reader of events: limited, and emptied by each read."""

import asyncio

from boxsched.api.resources.events import BUFFER_BYTES, WriteBuffer


async def waits(buffer: WriteBuffer, data: bytes) -> asyncio.Task[None] | None:
    """Return the task that waits to add the data, or None if it was added at once."""
    adding = asyncio.create_task(buffer.put(data))
    for _ in range(3):
        await asyncio.sleep(0)
    return None if adding.done() else adding


async def test_adding_beyond_the_limit_waits_until_the_data_is_read() -> None:
    buffer = WriteBuffer()
    for _ in range(3):
        assert await waits(buffer, b"x" * BUFFER_BYTES) is None
        assert await waits(buffer, b"y") is None, "up to the bound there is room"
        adding = await waits(buffer, b"z")
        assert adding is not None
        assert await buffer.take(20.0) == b"x" * BUFFER_BYTES + b"y"
        async with asyncio.timeout(20):
            await adding
        assert await buffer.take(20.0) == b"z"


async def test_the_end_comes_after_all_data_and_silence_is_not_the_end() -> None:
    buffer = WriteBuffer()
    assert await buffer.take(0.001) == b""
    await buffer.put(b"a")
    await buffer.put(b"b")
    buffer.close()
    assert await buffer.take(20.0) == b"ab"
    assert [await buffer.take(20.0) for _ in range(2)] == [None, None]
