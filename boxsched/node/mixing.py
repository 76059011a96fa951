"""Forbid in-process Boxes and external workers at the same time, except with ``--allow-mixed``.

In-process Boxes are for evaluation: a job that harms its machine also harms the node. They belong
to the default organization, so the rule is for its workers.
"""

from boxsched.clock import Clock
from boxsched.errors import NodeFailed
from boxsched.model import DEFAULT_ORGANIZATION
from boxsched.node.options import Options
from boxsched.protocol.workers import IN_PROCESS
from boxsched.store.store import Store

WORKERS_LOOK_SECONDS = 2.0  # between two queries of the workers, even if many connect


class Mixing:
    """The rule for one node. In-process workers of several nodes are allowed together."""

    def __init__(self, store: Store, clock: Clock, options: Options) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._ours = False  # whether any node has in-process Boxes
        self._looked_at: float | None = None

    async def refuse(self) -> None:
        """Raise NodeFailed if this node has in-process Boxes and there are external workers."""
        if self._options.allow_mixed or not self._options.box_count:
            return
        for one in await self._store.workers(DEFAULT_ORGANIZATION):
            if one.address != IN_PROCESS and one.state == "connected":
                raise NodeFailed(
                    f"the external worker {one.name} is connected: start this node without "
                    "in-process Boxes (--boxes 0), or allow both (--allow-mixed)"
                )

    async def objects(self) -> str | None:
        """Return why no external worker is allowed, None if they are allowed."""
        if self._options.allow_mixed or not (self._options.box_count or await self._others()):
            return None
        return (
            "nodes have in-process Boxes, so external workers are not allowed: start the nodes "
            "with --boxes 0 or with --allow-mixed"
        )

    async def _others(self) -> bool:
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at > WORKERS_LOOK_SECONDS:
            found = await self._store.workers(DEFAULT_ORGANIZATION)
            self._ours = any(
                one.address == IN_PROCESS and one.boxes and one.state == "connected"
                for one in found
            )
            self._looked_at = now
        return self._ours
