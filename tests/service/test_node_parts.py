"""How a node handles hints of the bus and stores commands, without any server."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest

from boxsched.engine.stages import Stages
from boxsched.model import WorkerId
from boxsched.node.group_commit import GroupCommit
from boxsched.node.hints import Hints
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD

MINE, NEAR, FAR = WorkerId(1), WorkerId(2), WorkerId(3)


class Parts:
    """Records which of the node's parts were woken."""

    def __init__(self) -> None:
        self.done: list[object] = []
        engine = SimpleNamespace(wake=lambda: self.done.append("engine"))
        feed = SimpleNamespace(
            heard=lambda shard, batch: self.done.append(("feed", shard, batch)),
            recheck=lambda: self.done.append("feed"),
        )
        gateway = SimpleNamespace(
            connected={NEAR},
            look=lambda workers: self.done.append(("gateway", set(workers))),
            looked=self.looked,
        )
        worker = SimpleNamespace(id=MINE, look=lambda: self.done.append("worker"))
        parts: list[Any] = [
            SimpleNamespace(places=self.places),
            feed,
            SimpleNamespace(engines={SHARD: engine}),
            gateway,
            worker,
        ]
        self.hints = Hints(*parts)

    async def looked(self, workers: Sequence[WorkerId]) -> None:
        self.done.append(("gateway", set(workers)))

    async def places(self, workers: Sequence[WorkerId]) -> dict[WorkerId, str]:
        return dict.fromkeys(workers, "a")


def test_a_wake_up_reaches_only_the_engine_of_its_shard() -> None:
    parts = Parts()
    parts.hints.woken(SHARD)
    parts.hints.woken(SHARD + 1)
    assert parts.done == ["engine"]


def test_a_batch_of_another_node_reaches_the_feed() -> None:
    parts = Parts()
    parts.hints.heard(4, 17)
    assert parts.done == [("feed", 4, 17)]


def test_after_lost_hints_every_part_looks_for_itself() -> None:
    parts = Parts()
    parts.hints.missed()
    assert len(parts.done) == 4
    assert all(one in parts.done for one in ("feed", "engine", "worker", ("gateway", {NEAR})))


@pytest.mark.parametrize(
    ("workers", "in_process"), [([MINE, NEAR], True), ([NEAR, FAR], False), ([], False)]
)
async def test_the_in_process_worker_looks_only_if_it_is_named(
    workers: list[WorkerId], in_process: bool
) -> None:
    parts = Parts()
    await parts.hints.look(workers)
    assert ("worker" in parts.done) is in_process
    assert ("gateway", set(workers)) in parts.done


async def test_workers_are_returned_with_the_nodes_that_the_store_knows() -> None:
    assert await Parts().hints.places([MINE, NEAR]) == {MINE: "a", NEAR: "a"}


async def test_commands_of_a_group_are_stored_by_shard_in_order_and_then_wake_it() -> None:
    done: list[object] = []

    async def ask(shard: int, entries: Sequence[tuple[str, bytes]]) -> None:
        done.append((shard, list(entries)))

    store = cast(Any, SimpleNamespace(ask=ask, repeat_deliveries=None))
    group = GroupCommit(store, Stages(lambda: 0.0), lambda shard: done.append(shard))
    one, two = inbox.PauseEnded("one", "x"), inbox.PauseEnded("two", "x")
    async with asyncio.timeout(10):
        await asyncio.gather(group.ask(1, one), group.ask(2, one), group.ask(1, two))
        await group.drain()
    stored: dict[int, list[tuple[str, bytes]]] = {1: [], 2: []}
    woken: set[int] = set()
    for step in done:
        if isinstance(step, tuple):
            stored[step[0]] += step[1]
            woken.discard(step[0])
        else:
            assert isinstance(step, int)
            assert stored[step], "woken before its commands were stored"
            woken.add(step)
    assert stored == {1: [inbox.written(one), inbox.written(two)], 2: [inbox.written(one)]}
    assert woken == {1, 2}
