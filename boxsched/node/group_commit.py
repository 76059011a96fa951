"""Group commit: submissions that arrive together share one transaction; so do deliveries and
commands."""

import asyncio
from collections.abc import Callable, Sequence

from boxsched.engine.stages import Stages
from boxsched.gather import Gather
from boxsched.model import WorkloadId
from boxsched.protocol import inbox
from boxsched.store.delivery_records import (
    Delivered,
    DeliveryResult,
    NewDelivery,
    RepeatedDelivery,
)
from boxsched.store.records import NewWorkload, ProjectChanged, SubmitOutcome, Submitted
from boxsched.store.store import Store

GROUP_AT_MOST = 256  # submissions or commands in one transaction
GROUP_BYTES_AT_MOST = 1 << 20  # submissions in one transaction; a single one may be larger

Command = tuple[int, inbox.Command]  # the shard and its command


class GroupCommit:
    """Stores submissions and commands in groups.

    ``wake`` is called after the commit, with each shard whose inbox has new entries.
    """

    def __init__(self, store: Store, stages: Stages, wake: Callable[[int], None]) -> None:
        self._store = store
        self._stages = stages
        self._wake = wake
        self._submissions: Gather[NewWorkload, SubmitOutcome] = Gather(
            self._store_submissions,
            at_most=GROUP_AT_MOST,
            weigh=lambda new: new.size,
            weight_at_most=GROUP_BYTES_AT_MOST,
        )
        self._deliveries: Gather[NewDelivery, Delivered | ProjectChanged] = Gather(
            self._store_deliveries,
            at_most=GROUP_AT_MOST,
            weigh=lambda new: new.size,
            weight_at_most=GROUP_BYTES_AT_MOST,
        )
        self._repeated: Gather[RepeatedDelivery, Delivered | None] = Gather(
            store.repeat_deliveries, at_most=GROUP_AT_MOST
        )
        self._commands: Gather[Command, None] = Gather(self._store_commands, at_most=GROUP_AT_MOST)

    async def submit(self, workload: NewWorkload) -> SubmitOutcome:
        """Store a workload, even if the caller is cancelled."""
        return await asyncio.shield(self._submissions.add(workload))

    async def deliver(self, new: NewDelivery) -> Delivered | ProjectChanged:
        """Store a delivery with its results, even if the caller is cancelled."""
        return await asyncio.shield(self._deliveries.add(new))

    async def repeat_delivery(self, one: RepeatedDelivery) -> Delivered | None:
        """Store a delivery as a duplicate; return None if it is not known to be one."""
        return await asyncio.shield(self._repeated.add(one))

    async def ask(self, shard: int, command: inbox.Command) -> None:
        """Store a command, even if the caller is cancelled."""
        await asyncio.shield(self._commands.add((shard, command)))

    async def drain(self) -> None:
        """Wait until everything that was added is stored or refused."""
        await self._submissions.drain()
        await self._deliveries.drain()
        await self._repeated.drain()
        await self._commands.drain()

    async def _store_submissions(self, group: Sequence[NewWorkload]) -> list[SubmitOutcome]:
        outcomes = await self._store.submit(group)
        self._stages.stored([one.id for one in outcomes if isinstance(one, Submitted)])
        for shard in {new.shard for new in group}:
            self._wake(shard)
        return outcomes

    async def _store_deliveries(
        self, group: Sequence[NewDelivery]
    ) -> list[Delivered | ProjectChanged]:
        outcomes = await self._store.deliver(group)
        created: list[WorkloadId] = []
        for one in outcomes:
            if isinstance(one, Delivered) and one.result is DeliveryResult.CREATED:
                created += one.workloads
        self._stages.stored(created)
        for shard in {
            new.shard
            for new, one in zip(group, outcomes, strict=True)
            if isinstance(one, Delivered) and one.changes
        }:
            self._wake(shard)
        return outcomes

    async def _store_commands(self, group: Sequence[Command]) -> list[None]:
        by_shard: dict[int, list[tuple[str, bytes]]] = {}
        for shard, command in group:
            by_shard.setdefault(shard, []).append(inbox.written(command))
        for shard, entries in by_shard.items():
            await self._store.ask(shard, entries)
            self._wake(shard)
        return [None] * len(group)
