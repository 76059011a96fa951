"""The leadership of a single node: its engine runs until the node stops, and no longer."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from boxsched.cluster.leadership import SoleLeadership
from boxsched.protocol.lock_keys import node_number
from boxsched.store.records import ShardHead

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
        self.calls.append("run")
        self.runs.set()
        await self.woken.wait()
        assert not self.goes_on(), "it is told to end before it is woken"
        await self.may_end.wait()


class Store:
    """Has these shards."""

    def __init__(self, *shards: int) -> None:
        self.ids = list(shards)

    async def shards(self) -> list[ShardHead]:
        return [ShardHead(id_, 1, 1, "") for id_ in self.ids]


def leading(*shards: int) -> SoleLeadership:
    return SoleLeadership(cast(Any, Engine), cast(Any, Store(*shards)), "node-1")


async def test_it_closes_when_its_engine_has_ended() -> None:
    leadership = leading(7)
    await leadership.claim()
    await leadership.start()
    engine = cast(Engine, leadership.engines[7])
    assert (engine.shard, engine.goes_on()) == (7, True)
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
    leadership = leading(1)
    await leadership.start()
    engine = cast(Engine, leadership.engines[1])
    async with asyncio.timeout(PATIENCE_SECONDS):
        await leadership.close()
        running = asyncio.create_task(leadership.run())
        await engine.runs.wait()
        running.cancel()
        await asyncio.wait([running])
        await leadership.close()


async def test_it_leads_its_shard_while_its_engine_does() -> None:
    leadership = leading(7)
    await leadership.start()
    me = node_number("node-1")
    view = leadership.view
    assert view is not None
    assert leadership.led == {7}
    assert (view.nodes, view.leaders) == ({me}, {7: me})
    cast(Engine, leadership.engines[7]).leads = False
    view = leadership.view
    assert view is not None
    assert (leadership.led, view.nodes, view.leaders) == (set(), {me}, {})


async def test_it_leads_each_shard_and_one_that_comes_later() -> None:
    store = Store(1, 2)
    leadership = SoleLeadership(cast(Any, Engine), cast(Any, store), "node-1")
    await leadership.start()
    async with asyncio.timeout(PATIENCE_SECONDS):
        running = asyncio.create_task(leadership.run())
        engines = [cast(Engine, one) for one in leadership.engines.values()]
        for engine in engines:
            await engine.runs.wait()
        store.ids.append(5)
        leadership.look()
        while 5 not in leadership.engines:  # noqa: ASYNC110 (it sets no event)
            await asyncio.sleep(0)
        new = cast(Engine, leadership.engines[5])
        await new.runs.wait()
        assert (leadership.led, new.calls) == ({1, 2, 5}, ["run"])
        for engine in (*engines, new):
            engine.may_end.set()
        await leadership.close()
        await running


async def test_the_failure_of_an_engine_ends_it() -> None:
    leadership = leading(1, 2)
    await leadership.start()
    first, second = (cast(Engine, one) for one in leadership.engines.values())
    async with asyncio.timeout(PATIENCE_SECONDS):
        running = asyncio.create_task(leadership.run())
        await second.runs.wait()
        first.woken.set()  # while it may go on, which raises
        await asyncio.wait([running])
        assert isinstance(running.exception(), AssertionError)
