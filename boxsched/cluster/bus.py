"""The bus between nodes: hints, which save time and may be lost.

There are three kinds of hints. *Wake-ups*: a shard's inbox has an entry. *Batches*: a shard has
committed a batch of this number, for the event streams of other nodes. *Look-ups*: a worker has a
job to start or to end, for the node that it is connected to. A node that receives a hint reads the
store. It also does so without a hint, a little later; so a lost, late, doubled or forged hint
changes nothing.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

import attrs

from boxsched.model import WorkerId


@attrs.define
class Counts:
    """Counters since the start, for metrics and for finding faults."""

    sent: int = 0  # commands
    dropped: int = 0  # shards and workers that were not sent
    heard: int = 0  # messages of other nodes
    refused: int = 0  # messages, entries and keys of other programs
    looked: int = 0  # entries of this node's stream that were acknowledged
    claimed: int = 0  # entries of other nodes' streams that were processed for them
    passed_on: int = 0  # workers of claimed entries, for which their present node got a hint
    recreated: int = 0  # how often this node's stream or group was missing


class Listener(Protocol):
    """What a node does with hints. The methods that are not ``async`` return at once."""

    def woken(self, shard: int) -> None:
        """A node has put a command into the shard's inbox."""

    def heard(self, shard: int, batch: int) -> None:
        """Another node has committed the shard's batches up to this one."""

    def missed(self) -> None:
        """Hints may have been lost, because the connection is new or was interrupted."""

    async def look(self, workers: Collection[WorkerId]) -> None:
        """Look up what these workers should run, and send it to those connected to this node.

        The hint is acknowledged when this returns, but not if it raises StoreAway.
        """

    async def places(self, workers: Collection[WorkerId]) -> Mapping[WorkerId, str]:
        """Return the nodes that these workers are connected to, without disconnected workers."""


class Bus(Protocol):
    """A bus. All sends return at once and never raise; a message that cannot be sent is dropped."""

    counts: Counts

    async def open(self, listener: Listener) -> None:
        """Start the bus; also returns while the server is away."""

    async def close(self) -> None: ...

    @property
    def up(self) -> bool:
        """Whether hints reach the other nodes now; if not, all nodes poll faster."""

    @property
    def trips(self) -> int:
        """How often hints have stopped reaching the other nodes."""

    def wake(self, shard: int) -> None: ...

    def publish(self, shard: int, batch: int) -> None: ...

    def hint(self, node: str, workers: Collection[WorkerId]) -> None:
        """Send a hint to the node: these workers, connected to it, have something to look up."""


class NoBus:
    """The bus of a single node, or of nodes without Redis: it sends nothing, and all nodes poll."""

    up = False
    trips = 0

    def __init__(self) -> None:
        self.counts = Counts()

    async def open(self, listener: Listener) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    def wake(self, shard: int) -> None:
        """Send nothing."""

    def publish(self, shard: int, batch: int) -> None:
        """Send nothing."""

    def hint(self, node: str, workers: Collection[WorkerId]) -> None:
        """Send nothing."""
