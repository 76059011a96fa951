"""Delete finished workloads, their logs and the history when they are old.

Every node runs this task, to measure the size of the database; only the leader of the default
organization's shard deletes. Each slice is small, and after it follows a pause of several times its
duration. So a busy service is hardly delayed.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence

from boxsched.clock import Clock
from boxsched.errors import BoxschedError
from boxsched.node.slices import Slice, pause_after
from boxsched.store.steps.pruning import CutPlace
from boxsched.store.store import Store

log = logging.getLogger(__name__)

DAY_SECONDS = 86_400.0
# Lower limit for the history: keys of submissions live for 7 days, and younger events cannot be
# deleted.
LEAST_DAYS = 8
EVENTS_A_SLICE, LEAST_EVENTS = 500, 50
WORKLOADS_A_SLICE = 100  # workloads that could not be deleted earlier
CHUNKS_A_SLICE = 100  # chunks of logs: 6 MiB
ARTIFACTS_A_SLICE = 500
FOLLOWER_SECONDS = 5.0  # pause while another node leads
REST_SECONDS = 60.0  # pause when nothing is left to do
CUT_SECONDS = 3_600.0  # between two scans of the workloads that could not be deleted earlier
LANES_A_SLICE = 200  # counts of superseded builds, which are looked at
LANES_SECONDS = 3_600.0  # between two scans of these counts
SIZE_SECONDS = 60.0  # between two measurements of the size
CLOCKS_DIFFER_SECONDS = DAY_SECONDS


class Pruning:
    """The task that deletes old data. ``keep_history``, ``keep_logs``: days; 0 = forever.
    ``idle``: is told which lanes had no build for so long that their counts can be forgotten.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        leads: Callable[[], bool],
        *,
        keep_history: float,
        keep_logs: float,
        idle: Callable[[Sequence[str]], None] = lambda lanes: None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._leads = leads
        self._keep_history = keep_history * DAY_SECONDS
        self._keep_logs = keep_logs * DAY_SECONDS
        self.pruned: Counter[str] = Counter()  # rows deleted by this node, for the metrics
        self.bytes = 0  # size of the database at the last measurement
        self._sized_at = float("-inf")
        self._events = Slice(EVENTS_A_SLICE, LEAST_EVENTS)
        self._cut: CutPlace | None = CutPlace()  # None: at the end
        self._cut_at = float("-inf")  # when the last scan began
        self._idle = idle
        self._shards: list[int] = []  # whose history is not pruned in this round yet
        self._lane: str | None = ""  # the scan of counts continues after this lane; None: complete
        self._lanes_at = float("-inf")
        self._kept: int | None = 0  # the same for artifacts
        self._filed: int | None = 0  # the same for logs in files
        self._job: int | None = 0  # the scan of logs continues after this job; None: it is complete

    async def run(self) -> None:
        """Run until cancelled. After an outage of the database the next round tries again."""
        while True:
            began = self._clock.monotonic()
            more = False
            try:
                await self._size(began)
                more = self._leads() and await self.run_once()
            except BoxschedError as error:
                log.info("nothing old was deleted this time: %s", error.message)
            took = self._clock.monotonic() - began
            await asyncio.sleep(self._pause(took, more))

    def _pause(self, took: float, more: bool) -> float:
        if not self._leads():
            return FOLLOWER_SECONDS
        return pause_after(took) if more else REST_SECONDS

    async def run_once(self) -> bool:
        """Delete a slice of each kind; return whether there is more to delete now."""
        now = await self._time()
        if now is None:
            return False
        more = False
        if self._keep_logs:
            more |= await self._prune_logs(now - self._keep_logs)
            more |= await self._prune_artifacts(now - self._keep_logs, now)
            more |= await self._prune_log_files(now - self._keep_logs)
        if self._keep_history:
            more |= await self._prune_history(now - self._keep_history)
            more |= await self._prune_cut(now - self._keep_history)
            more |= await self._forget_lanes(now - self._keep_history)
        return more

    async def _time(self) -> float | None:
        """Return the time; None if the database's clock and the node's differ by much. Then one is
        wrong, and deleted data cannot be restored.
        """
        now = await self._store.time()
        mine = self._clock.now()
        if abs(now - mine) > CLOCKS_DIFFER_SECONDS:
            log.warning(
                "nothing old is deleted: the database's clock was changed after this node started"
            )
            return None
        return min(now, mine)

    async def _prune_history(self, before: float) -> bool:
        """Prune the next shard; after the last one, begin again with the first."""
        if not self._shards:
            self._shards = [head.id for head in await self._store.shards()]
        began = self._clock.monotonic()
        done = await self._store.prune_history(self._shards[-1], before, self._events.rows)
        self.pruned["event"] += done.events
        self.pruned["workload"] += done.workloads
        self._events.took(self._clock.monotonic() - began)
        if not done.more:
            self._shards.pop()
        return bool(self._shards)

    async def _prune_cut(self, before: float) -> bool:
        """Scan again from the first one, some time after the last scan is complete."""
        now = self._clock.monotonic()
        if self._cut is None:
            if now - self._cut_at < CUT_SECONDS:
                return False
            self._cut = CutPlace()
        if self._cut == CutPlace():
            self._cut_at = now
        place = self._cut
        count, self._cut = await self._store.prune_cut(place, before, WORKLOADS_A_SLICE)
        self.pruned["workload"] += count
        return self._cut is not None

    async def _forget_lanes(self, before: float) -> bool:
        """Scan the counts of superseded builds; again some time after the last scan is complete."""
        now = self._clock.monotonic()
        if self._lane is None:
            if now - self._lanes_at < LANES_SECONDS:
                return False
            self._lane = ""
        if not self._lane:
            self._lanes_at = now
        lanes, self._lane = await self._store.idle_lanes(self._lane, before, LANES_A_SLICE)
        if lanes:
            self._idle(lanes)
        return self._lane is not None

    async def _prune_logs(self, before: float) -> bool:
        after = 0 if self._job is None else self._job
        count, self._job = await self._store.prune_logs(after, before, CHUNKS_A_SLICE)
        self.pruned["log_chunk"] += count
        return self._job is not None

    async def _prune_artifacts(self, before: float, now: float) -> bool:
        after = 0 if self._kept is None else self._kept
        blobs = self._store.blobs
        count, self._kept = await blobs.prune_artifacts(after, before, ARTIFACTS_A_SLICE, now)
        self.pruned["artifact"] += count
        return self._kept is not None

    async def _prune_log_files(self, before: float) -> bool:
        after = 0 if self._filed is None else self._filed
        count, self._filed = await self._store.prune_log_files(after, before, ARTIFACTS_A_SLICE)
        self.pruned["log_file"] += count
        return self._filed is not None

    async def _size(self, now: float) -> None:
        if now - self._sized_at >= SIZE_SECONDS:
            self.bytes = await self._store.database_bytes()
            self._sized_at = now
