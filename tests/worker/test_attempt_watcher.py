"""The agent's work in threads with the files of attempts."""

import asyncio
import threading

import pytest

from boxsched.worker.agent.attempt_watcher import in_thread


async def test_a_cancelled_caller_waits_for_the_thread() -> None:
    loop = asyncio.get_running_loop()
    begun, go, ended = asyncio.Event(), threading.Event(), threading.Event()

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go.wait(20.0)
        ended.set()
        raise OSError("nobody asks for it")

    task = asyncio.create_task(in_thread(work))
    await begun.wait()
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_value_and_error_of_the_thread_go_to_the_caller() -> None:
    assert await in_thread(max, 1, 2) == 2
    with pytest.raises(ValueError, match="invalid literal"):
        await in_thread(int, "x")
