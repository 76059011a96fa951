"""What is kept for a time only, and is deleted then: sessions, tokens that ended, idempotency keys,
commands that were set aside, notifications that were delivered or given up, deliveries of code
hosts, deleted projects that nothing refers to, and nodes that are gone.

Every node runs this task, but only the leader of the default organization's shard does the work. It
handles a small slice at a time, so that its transactions do not delay others for long.
"""

import asyncio
import logging
from collections.abc import Callable

from boxsched.clock import Clock
from boxsched.errors import BoxschedError
from boxsched.model import ProjectId
from boxsched.store.store import Store

log = logging.getLogger(__name__)

KEY_SECONDS = 7 * 86_400.0  # so long a POST can be repeated under its Idempotency-Key
TOKEN_SECONDS = 30 * 86_400.0  # so long a token is listed after its end
NODE_SECONDS = 30 * 86_400.0  # so long a node is listed that does not come again
SESSION_SLACK_SECONDS = 3_600.0  # nodes' clocks may differ: a session over for an hour is over
SET_ASIDE_SECONDS = 30 * 86_400.0  # so long a command that was set aside is kept
SET_ASIDE_AT_MOST = 1_000  # commands; the oldest go first
DELIVERED_SECONDS = 7 * 86_400.0  # so long a delivered notification is listed
DELIVERY_SECONDS = 7 * 86_400.0  # so long a repeated delivery of a code host is known as one
DEAD_SECONDS = 30 * 86_400.0  # so long a notification can be sent again that was given up
SLICE = 1_000  # rows looked at in one transaction
PAUSE_SECONDS = 10.0  # between two slices: 8.6 million keys are looked at a day
assert SLICE * 86_400 / PAUSE_SECONDS > 8_000_000


class Retention:
    """``leads``: whether this node does the work. ``alive``: whether the named node is alive."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        leads: Callable[[], bool],
        alive: Callable[[str], bool] = lambda node: True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._leads = leads
        self._alive = alive
        self.set_aside_dropped = 0  # by this node, for the metrics
        self._place = ("", "")  # the end of the last slice of keys
        self._project = ProjectId(0)  # the end of the last slice of projects

    async def run(self) -> None:
        """Run until cancelled. After an outage of the database the next round tries again."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)
            if not self._leads():
                continue
            try:
                await self.run_once()
            except BoxschedError as error:
                log.info("nothing old was deleted this time: %s", error.message)

    async def run_once(self) -> int:
        """Delete old rows in the next slice; return how many were deleted."""
        now = self._clock.now()
        sessions = await self._store.drop_expired_sessions(now - SESSION_SLACK_SECONDS, SLICE)
        tokens = await self._store.drop_old_tokens(TOKEN_SECONDS, SLICE)
        aside = await self._store.drop_old_set_aside(
            now - SET_ASIDE_SECONDS, SET_ASIDE_AT_MOST, SLICE
        )
        if aside:
            self.set_aside_dropped += aside
            log.warning("%d old commands that were set aside were deleted", aside)
        swept = await self._store.sweep_keys(self._place, KEY_SECONDS, SLICE)
        self._place = swept.place or ("", "")
        projects = await self._store.sweep_projects(self._project, SLICE)
        self._project = projects.place or ProjectId(0)
        sent = await self._store.drop_old_notifications(
            now - DELIVERED_SECONDS, now - DEAD_SECONDS, SLICE
        )
        received = await self._store.drop_old_deliveries(now - DELIVERY_SECONDS, SLICE)
        nodes = await self._drop_nodes()
        kept = swept.dropped + projects.dropped
        return sessions + tokens + aside + kept + sent + received + nodes

    async def _drop_nodes(self) -> int:
        away = [one.name for one in await self._store.nodes() if not self._alive(one.name)]
        gone = await self._store.drop_old_nodes(away, NODE_SECONDS) if away else []
        for name in gone:
            log.info("the node %s was removed: it was absent for %g s", name, NODE_SECONDS)
        return len(gone)
