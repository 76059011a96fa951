"""The reader of jobs files ends completely: none of its tasks continues after it."""

import asyncio
import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from boxsched.automation.plans import Plans
from tests.lingering import Lingering


async def test_its_reads_have_ended_when_it_has_ended(tmp_path: Path) -> None:
    """A read that is canceled takes a while: it ends git, and removes what git has fetched."""
    node: Any = SimpleNamespace(
        store=None,
        options=SimpleNamespace(data=tmp_path),
        plans_due=(due := asyncio.Event()),
        leadership=SimpleNamespace(led=(asked := Asked())),
    )
    plans = Plans(node, None)  # type: ignore[arg-type]
    read = Lingering()
    plans._tasks.add(asyncio.create_task(read.work()))
    running = asyncio.create_task(plans.run())
    await read.begun.wait()
    due.set()
    await asked.once.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    assert read.ended


class Asked:
    """The shards that a node leads: none; ``once`` is set when somebody has asked."""

    def __init__(self) -> None:
        self.once = asyncio.Event()

    def __contains__(self, shard: object) -> bool:
        self.once.set()
        return False
