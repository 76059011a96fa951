"""The engine's looks at its workers: who fell silent, who is back, and who can begin no jobs."""

from collections.abc import Callable

import attrs

from boxsched.clock import Clock
from boxsched.engine.books import Books
from boxsched.engine.limits import Deadlines
from boxsched.engine.loading import graces
from boxsched.engine.watch import NOTHING_SEEN, Sights, Watch
from boxsched.model import WorkerId
from boxsched.protocol.shards import ShardState
from boxsched.store.store import Store

WATCH_SECONDS = 1.0  # between two looks at the workers' beats
COUNTED_SECONDS = 3.0  # of the time between two looks: the rest was spent waiting for the store


class Lookout:
    """``deadlines`` and the watch count only time in which reports and beats could come.

    ``held_up``: the store could not be read, so that beats and reports may have been held up too.
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
        self.held_up = False

    def begin(self, state: ShardState, books: Books) -> None:
        """The shard was loaded: all time counts from now."""
        now = self._clock.monotonic()
        self._deadlines.begin(books, now)
        self._watch.begin(state.pulses, now, books.workers)
        self._watched_at = now

    def connected(self, worker: WorkerId) -> None:
        self._watch.connected(worker, self._clock.monotonic())

    async def look(self, books: Books, *, at_once: bool) -> Sights:
        """Return the workers that fell silent or came back; at most once per WATCH_SECONDS.

        ``at_once``: look now. A job is resolved where its worker is away: the node that took the
        command may have seen that before this engine.
        """
        now = self._clock.monotonic()
        if now - self._watched_at < WATCH_SECONDS and not at_once:
            return NOTHING_SEEN
        if self._watch.misses_somebody(now):
            await self.let_others_write()
        pulses = await self._store.pulses(self._shard)
        before, self._watched_at = self._watched_at, self._clock.monotonic()
        if self.held_up:  # the store was away: beats and reports may have been held up, too
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
        problems = {pulse.worker: pulse.problem for pulse in pulses if pulse.problem}
        return sights if problems == books.problems else attrs.evolve(sights, problems=problems)

    async def let_others_write(self) -> None:
        """Wait until earlier writes of other nodes are visible, also while a standby delays them.

        Called before a worker is taken for silent. The time that it takes is not counted as a
        worker's silence.
        """
        await self._store.batch_number(self._shard)
