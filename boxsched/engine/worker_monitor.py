"""Monitor the shard's workers: which fell silent, which are back, and which cannot begin jobs."""

from collections.abc import Callable, Sequence

import attrs

from boxsched.clock import Clock
from boxsched.engine.books import Books
from boxsched.engine.limits import Deadlines
from boxsched.engine.loading import graces
from boxsched.engine.watch import NOTHING_SEEN, Sights, Watch
from boxsched.model import WorkerId
from boxsched.protocol.fingerprint import differences, parts
from boxsched.protocol.shards import ShardState
from boxsched.protocol.workers import Pulse
from boxsched.store.store import Store

WATCH_SECONDS = 1.0  # between two checks of the workers' heartbeats
# limit of the counted time between two checks: the rest was spent waiting for the store
COUNTED_SECONDS = 3.0
UNFIT_SECONDS = 10.0  # a node that is being restarted may take a worker that others do not


class WorkerMonitor:
    """``deadlines`` and the watch count only time in which reports and heartbeats could arrive.

    ``held_up``: the store could not be read, so heartbeats and reports may have been delayed too.
    """

    def __init__(
        self,
        store: Store,
        shard: int,
        clock: Clock,
        deadlines: Deadlines,
        alive: Callable[[str], bool],
        lost_after: float,
    ) -> None:
        self._store = store
        self._shard = shard
        self._clock = clock
        self._deadlines = deadlines
        self._alive = alive
        self._watch = Watch(lost_after)
        self._watched_at = 0.0
        self._unfit_since: dict[WorkerId, float] = {}
        self.held_up = False

    def begin(self, state: ShardState, books: Books) -> None:
        """Start counting from now, because the shard was loaded."""
        now = self._clock.monotonic()
        self._deadlines.begin(books, now)
        self._watch.begin(state.pulses, now, books.workers)
        self._watched_at = now

    def connected(self, worker: WorkerId) -> None:
        self._watch.connected(worker, self._clock.monotonic())

    async def look(self, books: Books, *, at_once: bool) -> Sights:
        """Return the workers that fell silent or came back; at most once per WATCH_SECONDS.

        ``at_once``: check now. A ``resolve`` requires an absent worker, and the node that accepted
        it may have noticed the absence before this engine.
        """
        now = self._clock.monotonic()
        if now - self._watched_at < WATCH_SECONDS and not at_once:
            return NOTHING_SEEN
        if self._watch.misses_somebody(now):
            await self.let_others_write()
        pulses = await self._store.pulses(self._shard)
        before, self._watched_at = self._watched_at, self._clock.monotonic()
        if self.held_up:  # the store was away: heartbeats and reports may have been delayed too
            self._deadlines.begin(books, self._watched_at)
            self._watch.begin_anew(self._watched_at)
            self.held_up = False
        elif (unseen := self._watched_at - before - COUNTED_SECONDS) > 0:
            self._deadlines.leave_out(unseen)
            self._watch.leave_out(unseen)
        books.graces = graces(pulses)
        books.know(pulses)
        gone = {node for node in {pulse.node for pulse in pulses} if not self._alive(node)}
        sights = self._watch.look(pulses, self._watched_at, gone)
        unfit = await self._unfit(books, pulses)
        if unfit:
            sights = attrs.evolve(sights, unfit=unfit)
        problems = {pulse.worker: pulse.problem for pulse in pulses if pulse.problem}
        return sights if problems == books.problems else attrs.evolve(sights, problems=problems)

    async def _unfit(self, books: Books, pulses: Sequence[Pulse]) -> tuple[WorkerId, ...]:
        """The incompatible workers that no live node has taken for UNFIT_SECONDS."""
        asked = {w for w in books.incompatible if w not in books.drains and w not in books.absent}
        if not asked:
            self._unfit_since = {}
            return ()
        nodes = [parts(n.requires) for n in await self._store.nodes() if self._alive(n.name)]
        reported = {pulse.worker: parts(pulse.fingerprint) for pulse in pulses}
        now = self._watched_at
        self._unfit_since = {
            worker: self._unfit_since.get(worker, now)
            for worker in asked
            if all(differences(reported.get(worker, {}), required) for required in nodes)
        }
        return tuple(
            worker for worker, since in self._unfit_since.items() if now - since >= UNFIT_SECONDS
        )

    async def let_others_write(self) -> None:
        """Wait until earlier writes of other nodes are visible, also while a standby delays them.

        Called before a worker counts as silent. The time that this takes does not count as silence.
        """
        await self._store.batch_number(self._shard)
