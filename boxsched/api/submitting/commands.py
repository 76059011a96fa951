"""Store commands about a workload: durable before the answer, and only once for each key."""

import asyncio

from boxsched.api.http import recent
from boxsched.node.node import Node
from boxsched.protocol import inbox
from boxsched.protocol.shards import OrganizationRef
from boxsched.store.records import IdempotencyKey, Workload


async def store_command(
    node: Node,
    command: inbox.Stop | inbox.Resolve | inbox.Reprioritize,
    stored: Workload,
    organization: OrganizationRef,
    key: IdempotencyKey | None,
) -> None:
    """Store the command and its key; both are durable when this returns."""
    if key is None:
        await node.ask(organization.shard, command)
        return
    once = node.store.ask_once(command, stored.id, stored.number, key)
    recent.repeated(await asyncio.shield(once))
    node.wake(organization.shard)
