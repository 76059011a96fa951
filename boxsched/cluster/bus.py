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
    refused: int = 0  # messages, entries and keys that were not ours
    looked: int = 0  # entries of this node's stream that were acknowledged
    claimed: int = 0  # entries of other nodes' streams that were done for them
    passed_on: int = 0  # workers of claimed entries, hinted to the node they are connected to now
    recreated: int = 0  # times that this node's stream or group was gone


class Listener(Protocol):
    """What a node does with hints. The methods that are not ``async`` return at once."""

    def woken(self, shard: int) -> None:
        """Some node put something into the shard's inbox."""

    def heard(self, shard: int, batch: int) -> None:
        """Another node committed the shard's batches up to this one."""

    def missed(self) -> None:
        """Hints may have been lost: the connection is new, or was away and is back."""

    async def look(self, workers: Collection[WorkerId]) -> None:
        """Tell those of the workers that are connected to this node what they should run.

        When it returns the hint is acknowledged; where it raises StoreAway it is not.
        """

    async def places(self, workers: Collection[WorkerId]) -> Mapping[WorkerId, str]:
        """The nodes that these workers are connected to; one that is connected nowhere is left
        out."""


class Bus(Protocol):
    """All sends return at once, and never raise: what cannot be sent is dropped."""

    counts: Counts

    async def open(self, listener: Listener) -> None:
        """Begin; returns also while the other side is away."""

    async def close(self) -> None: ...

    @property
    def up(self) -> bool:
        """Whether hints reach the other nodes now; else everybody polls faster."""

    @property
    def trips(self) -> int:
        """How often they ceased to."""

    def wake(self, shard: int) -> None: ...

    def publish(self, shard: int, batch: int) -> None: ...

    def hint(self, node: str, workers: Collection[WorkerId]) -> None:
        """These workers, connected to that node, have something to look up."""


class NoBus:
    """For a node that is alone or has no Redis: it sends nothing, and all nodes poll."""

    up = False
    trips = 0

    def __init__(self) -> None:
        self.counts = Counts()

    async def open(self, listener: Listener) -> None:
        """Nothing to begin."""

    async def close(self) -> None:
        """Nothing to end."""

    def wake(self, shard: int) -> None:
        """Not sent."""

    def publish(self, shard: int, batch: int) -> None:
        """Not sent."""

    def hint(self, node: str, workers: Collection[WorkerId]) -> None:
        """Not sent."""
