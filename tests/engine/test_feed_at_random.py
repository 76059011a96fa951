"""Two nodes, three shards, hints that are lost, late or doubled, readers that disconnect and
return: no event is missed or read twice.

The leader of a shard changes with every batch; only the store is shared. Each reader must have
received, shard by shard, the table's events after its start.
"""

import asyncio
import random
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from boxsched.feed import EventFeed
from boxsched.feed import feed as feed_module
from boxsched.feed import subscription as subscription_module
from boxsched.store import open_store
from tests.contract.postgres_server import database, served
from tests.engine.event_history import (
    FROM_THE_BEGINNING,
    EventHistory,
    FeedReader,
    by_shard,
    following,
)

SHARDS = 3
READERS = 3


class Commit(NamedTuple):
    shard: int
    node: int  # the node that leads
    events: int
    # of the hint to the other node; "unpublished": even the leader's own feed is not told
    fate: str


class Deliver(NamedTuple):
    """Deliver a hint that was held back."""

    newest: bool


class Poll(NamedTuple):
    node: int


class Connect(NamedTuple):
    reader: int
    node: int
    from_now: bool  # the first time; later it continues from its cursor


class Disconnect(NamedTuple):
    reader: int


class RunReaders(NamedTuple):
    """Let the readers run for this many turns of the loop."""

    turns: int


Step = Commit | Deliver | Poll | Connect | Disconnect | RunReaders

_NODE = st.integers(0, 1)
_READER = st.integers(0, READERS - 1)
_COMMIT = st.builds(
    Commit,
    st.integers(1, SHARDS),
    _NODE,
    st.integers(0, 5),
    st.sampled_from(["heard", "heard", "lost", "twice", "held", "unpublished"]),
)
STEPS = st.lists(
    st.one_of(
        _COMMIT,
        _COMMIT,
        st.builds(Deliver, st.booleans()),
        st.builds(Poll, _NODE),
        st.builds(Connect, _READER, _NODE, st.booleans()),
        st.builds(Disconnect, _READER),
        st.builds(RunReaders, st.integers(1, 30)),
    ),
    max_size=50,
)


class FeedTest:
    def __init__(self, history: EventHistory, feeds: Sequence[EventFeed]) -> None:
        self.history = history
        self.feeds = feeds
        self.readers = [FeedReader() for _ in range(READERS)]
        self.held: deque[tuple[EventFeed, int, int]] = deque()

    async def step(self, step: Step) -> None:
        if isinstance(step, Commit):
            await self._commit(step)
        elif isinstance(step, Deliver):
            if self.held:
                feed, shard, batch = self.held.pop() if step.newest else self.held.popleft()
                feed.heard(shard, batch)
        elif isinstance(step, Poll):
            await self.feeds[step.node].poll()
        elif isinstance(step, Connect):
            reader = self.readers[step.reader]
            if not reader.connected:
                await reader.connect(
                    self.feeds[step.node], None if step.from_now else FROM_THE_BEGINNING
                )
        elif isinstance(step, Disconnect):
            await self.readers[step.reader].disconnect()
        else:
            for _ in range(step.turns):
                await asyncio.sleep(0)

    async def _commit(self, step: Commit) -> None:
        batch, events = await self.history.commit(step.shard, step.events)
        other = self.feeds[1 - step.node]
        if step.fate != "unpublished":
            self.feeds[step.node].publish(step.shard, batch, events)
        if step.fate in ("heard", "twice"):
            other.heard(step.shard, batch)
        if step.fate in ("held", "twice"):
            self.held.append((other, step.shard, batch))

    async def end(self) -> None:
        """After one poll per node every reader has everything."""
        for reader in self.readers:
            if not reader.connected:
                await reader.connect(self.feeds[0], FROM_THE_BEGINNING)
        for feed in self.feeds:
            await feed.poll()
        for reader in self.readers:
            assert reader.start is not None
            wanted = await self.history.table(reader.start)
            await reader.received(sum(map(len, wanted.values())))
        for feed in self.feeds:
            feed.close()
        for reader in self.readers:
            await reader.ended()
            assert reader.start is not None
            assert by_shard(reader.seen) == await self.history.table(reader.start)


async def play(steps: Sequence[Step], stores: "Stores") -> None:
    async with stores as world, following(world.feeds[0]), following(world.feeds[1]):
        for step in steps:
            await world.step(step)
        await world.end()


class Stores:
    """Run the steps on one database: one store for all nodes, or one per node."""

    def __init__(self, url: str, folder: Path, nodes: int) -> None:
        self._stores = [open_store(url, folder / str(n)) for n in range(nodes)]

    async def __aenter__(self) -> FeedTest:
        for store in self._stores:
            await store.open()
        await self._stores[0].open_shards(SHARDS)
        feeds = [EventFeed(self._stores[0]), EventFeed(self._stores[-1])]
        return FeedTest(EventHistory(self._stores[0]), feeds)

    async def __aexit__(self, *error: object) -> None:
        for store in self._stores:
            await store.close()


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    """Make pages and queues so short that every reader falls behind sometimes."""
    with (
        mock.patch.object(subscription_module, "PAGE", 4),
        mock.patch.object(feed_module, "PAGE", 4),
        mock.patch.object(feed_module, "LEAST_SECONDS", 0.001),
        # so reads happen only because of hints
        mock.patch.object(feed_module, "POLL_SECONDS", 1_000.0),
        mock.patch.object(subscription_module, "QUEUED_AT_MOST", 150),
    ):
        yield


@given(STEPS)
@settings(max_examples=80, deadline=None)
@pytest.mark.slow
def test_every_reader_receives_the_events_of_the_table(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/boxsched.sqlite"
        asyncio.run(play(steps, Stores(url, Path(folder), 1)))


def test_every_reader_receives_all_events_of_two_nodes_over_postgresql(tmp_path: Path) -> None:
    """The same with a store for each node, and with one long run."""
    chance = random.Random(7)
    fates = ["heard"] * 6 + ["lost", "twice", "held", "unpublished"]

    def step() -> Step:
        node, reader = chance.randrange(2), chance.randrange(READERS)
        return chance.choices(
            [
                Commit(chance.randint(1, SHARDS), node, chance.randrange(6), chance.choice(fates)),
                Deliver(chance.random() < 0.5),
                Poll(node),
                Connect(reader, node, chance.random() < 0.3),
                Disconnect(reader),
                RunReaders(chance.randint(1, 30)),
            ],
            [50, 5, 5, 10, 6, 10],
        )[0]

    steps = [step() for _ in range(600)]
    with served() as server, database(server.url("postgres")) as url:
        asyncio.run(play(steps, Stores(url, tmp_path, 2)))
