"""Asking the spawner for a supervisor never blocks the agent."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.worker.agent.forking import Spawner


@pytest.fixture
async def spawner(tmp_path: Path) -> AsyncIterator[Spawner]:
    one = Spawner(str(tmp_path), 1_024, ended=lambda name, status: None, died=lambda: None)
    one.start()
    yield one
    process = one._process
    if process is not None:
        process.send_signal(signal.SIGCONT)
    one.close()


async def test_a_spawner_that_reads_nothing_does_not_hold_up_its_agent(spawner: Spawner) -> None:
    process = spawner._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    for _ in range(2_000):  # together more than a pipe holds
        spawner.ask("x" * 100)
    spawner.thaw()
    await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WCONTINUED | os.WNOWAIT)


async def test_a_spawner_without_ends_does_not_hold_up_its_agent(spawner: Spawner) -> None:
    spawner.listen()
    spawner._read_ends()
    spawner.thaw()
    assert spawner._process is not None and spawner._process.poll() is None
