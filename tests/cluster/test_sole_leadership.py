"""The leadership of a single node: its engine runs until the node stops, and no longer."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from boxsched.cluster.leadership import SoleLeadership
from boxsched.protocol.lock_keys import node_number

PATIENCE_SECONDS = 20.0


class Engine:
    leads = True

    def __init__(self, shard: int, goes_on: Callable[[], bool]) -> None:
        self.shard = shard
        self.goes_on = goes_on
        self.calls: list[str] = []
        self.woken = asyncio.Event()
        self.runs = asyncio.Event()
        self.may_end = asyncio.Event()

    async def load(self) -> None:
        self.calls.append("load")

    async def turn(self) -> None:
        self.calls.append("turn")

    def wake(self) -> None:
        self.woken.set()

    async def run(self) -> None:
        self.runs.set()
        await self.woken.wait()
        assert not self.goes_on(), "it is told to end before it is woken"
        await self.may_end.wait()


async def test_it_closes_when_its_engine_has_ended() -> None:
    leadership = SoleLeadership(cast(Any, Engine), 7, "node-1")
    engine = cast(Engine, leadership.engines[7])
    assert (engine.shard, engine.goes_on()) == (7, True)
    await leadership.claim()
    await leadership.start()
    assert engine.calls == ["load", "turn"]
    async with asyncio.timeout(PATIENCE_SECONDS):
        running = asyncio.create_task(leadership.run())
        await engine.runs.wait()
        closing = asyncio.create_task(leadership.close())
        await engine.woken.wait()
        await asyncio.sleep(0)
        assert not closing.done(), "the current turn has not ended yet"
        engine.may_end.set()
        await closing
        await running


async def test_it_closes_at_once_if_it_never_ran_or_was_cancelled() -> None:
    leadership = SoleLeadership(cast(Any, Engine), 1, "node-1")
    engine = cast(Engine, leadership.engines[1])
    async with asyncio.timeout(PATIENCE_SECONDS):
        await leadership.close()
        running = asyncio.create_task(leadership.run())
        await engine.runs.wait()
        running.cancel()
        await asyncio.wait([running])
        await leadership.close()


async def test_it_leads_its_shard_while_its_engine_does() -> None:
    leadership = SoleLeadership(cast(Any, Engine), 7, "node-1")
    me = node_number("node-1")
    view = leadership.view
    assert view is not None
    assert leadership.led == {7}
    assert (view.nodes, view.leaders) == ({me}, {7: me})
    cast(Engine, leadership.engines[7]).leads = False
    view = leadership.view
    assert view is not None
    assert (leadership.led, view.nodes, view.leaders) == (set(), {me}, {})
