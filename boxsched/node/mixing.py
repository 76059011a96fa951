"""In-process Boxes and external workers: not side by side, unless ``--allow-mixed`` asks for it.

In-process Boxes are for evaluation: what a job does to its machine it does to the node.
"""

from boxsched.clock import Clock
from boxsched.errors import NodeFailed
from boxsched.node.options import Options
from boxsched.protocol.workers import IN_PROCESS
from boxsched.store.store import Store

WORKERS_LOOK_SECONDS = 2.0  # between two looks at the workers, however many connect


class Mixing:
    """The rule as one node sees it; the in-process workers of several nodes go together."""

    def __init__(self, store: Store, clock: Clock, options: Options) -> None:
        self._store = store
        self._clock = clock
        self._options = options
        self._ours = False  # whether some node has in-process Boxes
        self._looked_at: float | None = None

    async def refuse(self) -> None:
        """Raises NodeFailed for a node with Boxes of its own beside external workers."""
        if self._options.allow_mixed or not self._options.box_count:
            return
        for one in await self._store.workers():
            if one.address != IN_PROCESS and one.state == "connected":
                raise NodeFailed(
                    f"the external worker {one.name} is connected: start this node without Boxes "
                    "of its own (--boxes 0), or ask for both (--allow-mixed)"
                )

    async def objects(self) -> str | None:
        """Why no external worker may come in, if so."""
        if self._options.allow_mixed or not (self._options.box_count or await self._others()):
            return None
        return (
            "nodes have in-process Boxes, beside which no external worker is taken: start them "
            "with --boxes 0, or with --allow-mixed"
        )

    async def _others(self) -> bool:
        now = self._clock.monotonic()
        if self._looked_at is None or now - self._looked_at > WORKERS_LOOK_SECONDS:
            found = await self._store.workers()
            self._ours = any(
                one.address == IN_PROCESS and one.boxes and one.state == "connected"
                for one in found
            )
            self._looked_at = now
        return self._ours
