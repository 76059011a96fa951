"""A node's sender over a real store, with notifications to send and the test's clock."""

import asyncio
from collections.abc import Callable, Sequence

from boxsched.model import WorkloadId
from boxsched.outgoing.composing import Composer
from boxsched.outgoing.guard import AddressGuard
from boxsched.outgoing.sender import Sender
from boxsched.outgoing.targets import host_of
from boxsched.protocol.batches import Notice
from boxsched.secrets.vault import Vault
from boxsched.store import Store
from boxsched.store.records import Workload
from boxsched.store.steps.notifications import StoredNotification, Target
from tests.contract.store_data import NOW, Leader, build
from tests.engine.harness import HeldClock

FINISHED = "workload.finished"


ABOVE_ALL = 1 << 62


def shape(workload: Workload) -> object:
    return {"id": workload.id}


class SenderHarness:
    """A store with notifications, and a node's sender with the test's clock."""

    def __init__(self, store: Store, leader: Leader) -> None:
        self.store, self.leader = store, leader
        self.clock = HeldClock(NOW)
        self.chance = 0.5
        self.draw: Callable[[], float] = lambda: self.chance
        self.guards: list[AddressGuard] = []
        self.sender = self.node()

    def node(self, vault: Vault | None = None, allowed: Sequence[str] = ("127.0.0.1",)) -> Sender:
        """Without a vault it has no keys."""
        vault = vault or Vault(None)
        guard = AddressGuard(allowed)
        self.guards.append(guard)
        composer = Composer("cluster", "https://ci.example", vault, shape)
        return Sender(self.store, self.clock, guard, composer, lambda: self.draw())

    async def notify(self, *urls: str, seal: Callable[..., str] | None = None) -> list[WorkloadId]:
        """For each URL, create a workload of its own project, which ends now."""
        made = []
        for url in urls:
            target = Target("hook.1", None, url, host_of(url, ""), (FINISHED,), seal)
            name = f"p{len(await self.store.projects())}"
            project, _ = await self.store.put_project(name, "{}", None, targets=[target])
            made.append((await self.leader.submit(build(project))).id)
        await self.end(*made)
        return made

    async def end(self, *workloads: WorkloadId) -> None:
        now = self.clock.now()
        await self.leader.commit(notices=tuple(Notice(id_, FINISHED, now) for id_ in workloads))

    async def round(self, sender: Sender | None = None) -> int:
        """One round: claim, send, and store the results; return how many were sent."""
        sender = sender or self.sender
        async with asyncio.timeout(30):
            count = await sender.run_once()
            await sender.idle()
            await sender.run_once()
        return count

    async def rows(self) -> list[StoredNotification]:
        return (await self.store.notifications(None, ABOVE_ALL, 1_000))[::-1]

    async def row(self) -> StoredNotification:
        (found,) = await self.rows()
        return found
