"""A node finds commands of other nodes without a hint: one query for all shards that it leads."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from boxsched.errors import StoreAway
from boxsched.node import polling
from boxsched.node.polling import Polling

PATIENCE_SECONDS = 20.0


class Engine:
    def __init__(self) -> None:
        self.woken = asyncio.Event()

    def wake(self) -> None:
        self.woken.set()


class Store:
    """``waiting``: the shards whose inboxes have commands."""

    def __init__(self) -> None:
        self.waiting: set[int] = set()
        self.asked: list[list[int]] = []
        self.away = 0

    async def shards_with_commands(self, shards: Sequence[int]) -> list[int]:
        self.asked.append(list(shards))
        if self.away:
            self.away -= 1
            raise StoreAway("for the test")
        return [shard for shard in shards if shard in self.waiting]


def made(*shards: int) -> tuple[Polling, Any, dict[int, Engine]]:
    store, engines = Store(), {shard: Engine() for shard in shards}
    leadership: Any = SimpleNamespace(engines=engines)
    return Polling(store, leadership), store, engines  # type: ignore[arg-type]


async def test_only_the_engines_with_commands_are_woken() -> None:
    polls, store, engines = made(3, 1, 2)
    store.waiting = {2, 3, 9}
    await polls.run_once()
    assert store.asked == [[1, 2, 3]], "one query"
    assert {shard for shard, engine in engines.items() if engine.woken.is_set()} == {2, 3}


async def test_a_node_that_leads_nothing_asks_nothing() -> None:
    polls, store, _ = made()
    await polls.run_once()
    assert store.asked == []


async def test_it_goes_on_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polling, "POLL_SECONDS", 0.0)
    polls, store, engines = made(1)
    store.away, store.waiting = 2, {1}
    task = asyncio.create_task(polls.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await engines[1].woken.wait()
    task.cancel()
    assert len(store.asked) == 3
