"""Delete data that is kept only for a limited time: sessions, invalid tokens, idempotency keys,
commands that were set aside, delivered and dead notifications, deliveries of code hosts, deleted
projects that nothing refers to, and absent nodes.

Every node runs this task, but only the leader of the default organization's shard does the work, in
slices (``slices``).
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import attrs

from boxsched.clock import Clock
from boxsched.errors import BoxschedError
from boxsched.model import ProjectId
from boxsched.node.slices import Slice, pause_after
from boxsched.store.store import Store

log = logging.getLogger(__name__)

KEY_SECONDS = 7 * 86_400.0  # how long a POST can be repeated with its Idempotency-Key
TOKEN_SECONDS = 30 * 86_400.0  # how long an invalid token is kept
NODE_SECONDS = 30 * 86_400.0  # how long an absent node is listed
SESSION_SLACK_SECONDS = 3_600.0  # because nodes' clocks may differ
SET_ASIDE_SECONDS = 30 * 86_400.0  # how long a command that was set aside is kept
SET_ASIDE_AT_MOST = 1_000  # commands; the oldest are deleted first
DELIVERED_SECONDS = 7 * 86_400.0  # how long a delivered notification is listed
# how long a code host's delivery is listed and its duplicates are recognized
DELIVERY_SECONDS = 7 * 86_400.0
DEAD_SECONDS = 30 * 86_400.0  # how long a dead notification is listed and can be sent again
SLICE, LEAST_SLICE = 1_000, 50  # rows deleted in one transaction
PAUSE_SECONDS = 10.0  # between two checks for old rows


@attrs.define(eq=False)
class RetainedKind:
    """A kind of old rows. ``delete``: deletes at most this many rows and returns the number of
    deleted ones. ``due``: when its next slice is due, by the monotonic clock.
    """

    delete: Callable[[int], Awaitable[int]]
    slice: Slice
    due: float = float("-inf")


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
        self.set_aside_dropped = 0  # deleted by this node, for the metrics
        self._project = ProjectId(0)  # the end of the last slice of projects
        self._kinds = [
            RetainedKind(delete, Slice(SLICE, LEAST_SLICE))
            for delete in (
                self._drop_sessions,
                self._drop_tokens,
                self._drop_set_aside,
                self._drop_keys,
                self._drop_projects,
                self._drop_notifications,
                self._drop_deliveries,
                self._drop_nodes,
            )
        ]

    async def run(self) -> None:
        """Run until cancelled. After an outage of the database the next round tries again."""
        pause = PAUSE_SECONDS
        while True:
            await asyncio.sleep(pause)
            pause = PAUSE_SECONDS
            if not self._leads():
                continue
            began = self._clock.monotonic()
            try:
                await self.run_once()
            except BoxschedError as error:
                log.info("nothing old was deleted this time: %s", error.message)
                continue
            now = self._clock.monotonic()
            if any(kind.due <= now for kind in self._kinds):
                pause = pause_after(now - began)

    async def run_once(self) -> int:
        """Delete the next slice of each kind that is due; return how many rows were deleted. A kind
        with a full slice is due again at once.
        """
        deleted = 0
        for kind in self._kinds:
            began = self._clock.monotonic()
            if kind.due > began:
                continue
            rows = kind.slice.rows
            count = await kind.delete(rows)
            now = self._clock.monotonic()
            kind.slice.took(now - began)
            kind.due = now if count >= rows else now + PAUSE_SECONDS
            deleted += count
        return deleted

    async def _drop_sessions(self, limit: int) -> int:
        then = self._clock.now() - SESSION_SLACK_SECONDS
        return await self._store.drop_expired_sessions(then, limit)

    async def _drop_tokens(self, limit: int) -> int:
        return await self._store.drop_old_tokens(TOKEN_SECONDS, limit)

    async def _drop_set_aside(self, limit: int) -> int:
        then = self._clock.now() - SET_ASIDE_SECONDS
        count = await self._store.drop_old_set_aside(then, SET_ASIDE_AT_MOST, limit)
        if count:
            self.set_aside_dropped += count
            log.warning("%d old commands that were set aside were deleted", count)
        return count

    async def _drop_keys(self, limit: int) -> int:
        return await self._store.drop_old_keys(KEY_SECONDS, limit)

    async def _drop_projects(self, limit: int) -> int:
        swept = await self._store.sweep_projects(self._project, limit)
        self._project = swept.place or ProjectId(0)
        return swept.dropped

    async def _drop_notifications(self, limit: int) -> int:
        now = self._clock.now()
        return await self._store.drop_old_notifications(
            now - DELIVERED_SECONDS, now - DEAD_SECONDS, limit
        )

    async def _drop_deliveries(self, limit: int) -> int:
        return await self._store.drop_old_deliveries(self._clock.now() - DELIVERY_SECONDS, limit)

    async def _drop_nodes(self, _: int) -> int:
        away = [one.name for one in await self._store.nodes() if not self._alive(one.name)]
        gone = await self._store.drop_old_nodes(away, NODE_SECONDS) if away else []
        for name in gone:
            log.info("the node %s was removed: it was absent for %g s", name, NODE_SECONDS)
        return len(gone)
