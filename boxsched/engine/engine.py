"""The engine's task: turns, one after the other, for as long as it leads its shard."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush

import attrs
import msgspec

from boxsched import inbox
from boxsched.clock import Clock
from boxsched.engine.books import Books, LiveJob, loaded
from boxsched.engine.turn import Turn
from boxsched.engine.why import WhyReport, explain, sentences
from boxsched.errors import Fenced, StoreAway
from boxsched.model import JobId, WorkerId, WorkloadId, job_index, job_workload
from boxsched.states import JobState
from boxsched.store.contract import Store
from boxsched.store.values import Batch, Event, InboxEntry

log = logging.getLogger(__name__)

COMMANDS_A_TURN = 1_000
JOBS_A_TURN = 1_000  # a turn holds the event loop: tens of milliseconds at the most
DEADLINES_KEPT = 1_000  # of ended jobs
RETRY_SECONDS = 1.0  # after the store was away
POLL_SECONDS = 0.2  # a wake-up can be lost; the inbox cannot
# A worker ends a job at its time limit by itself; this long after it the engine says so too.
TIME_LIMIT_SLACK_SECONDS = 30.0


@attrs.define
class Counters:
    """What ``/metrics`` shows of the engine."""

    turns: int = 0
    commands: int = 0
    events: int = 0
    admitted: int = 0
    finished: int = 0
    loads: int = 0
    largest_turn: int = 0
    commit_seconds: float = 0.0


class Engine:
    """Leads one shard. ``published`` gets each batch's number and events; ``reloaded`` is called
    when one may have been committed without that; ``told`` gets the workers that have something to
    look up."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        shard: int,
        node: str,
        published: Callable[[int, Sequence[Event]], None],
        reloaded: Callable[[], None],
        told: Callable[[set[WorkerId]], None],
    ) -> None:
        self._store = store
        self._clock = clock
        self._shard = shard
        self._node = node
        self._published = published
        self._reloaded = reloaded
        self._told = told
        self._awake = asyncio.Event()
        self._epoch = 0
        self._batch = 0
        # (deadline, job): from the store's times, so they outlive any crash.
        self._deadlines: list[tuple[float, JobId]] = []
        self.books: Books | None = None  # None while the shard is not loaded
        self.counters = Counters()

    def wake(self) -> None:
        """There may be something in the inbox."""
        self._awake.set()

    @property
    def leads(self) -> bool:
        return self.books is not None

    def why(self, workload: WorkloadId) -> WhyReport | None:
        """None while the shard is not loaded, and where it has no such unfinished workload."""
        if self.books is None:
            return None
        return explain(self.books, workload, max(self._clock.now(), self.books.latest))

    def reasons(self) -> dict[WorkloadId, str]:
        """A sentence for each that waits."""
        if self.books is None:
            return {}
        return sentences(self.books, max(self._clock.now(), self.books.latest))

    async def run(self) -> None:
        """Turns until cancelled; the store may come and go."""
        while True:
            try:
                if self.books is None:
                    await self.load()
                if not await self.turn():
                    await self._sleep()
            except (StoreAway, Fenced) as error:
                # Whatever was decided in memory is not, or may not be, in the store.
                self.books = None
                log.warning("shard %s: %s; loading it again", self._shard, error.message)
                await asyncio.sleep(RETRY_SECONDS)

    async def load(self) -> None:
        """Lead the shard: raise its epoch, and fill the books from the store."""
        state = await self._store.lead(self._shard, self._node)
        books = loaded(state)
        self._epoch, self._batch = state.epoch, state.batch
        self._clock.not_before(books.latest)
        self._deadlines = [
            (job.started_at + _limit(books, job), job.id)
            for workload in books.workloads.values()
            for job in workload.running or ()
            if job.started_at is not None and job.state is not JobState.FINISHED
        ]
        heapify(self._deadlines)
        self.books = books
        self.counters.loads += 1
        self._reloaded()
        self._told({box.worker for box in books.boxes.values()})

    async def turn(self) -> bool:
        """One turn; False where there was nothing to do."""
        assert self.books is not None
        self._awake.clear()
        entries = await self._store.inbox(self._shard, COMMANDS_A_TURN)
        now = max(self._clock.now(), self.books.latest)
        overdue = self._overdue(now)
        if not entries and not overdue:
            return False
        entries, commands, unreadable = _read(entries)
        # Another node's clock may be ahead: nothing is queued before it was created.
        now = max([now, *(c.created_at for c in commands if isinstance(c, inbox.Submit))])
        self.books.latest = now
        turn = Turn(self.books, now, self._batch + 1)
        for entry in unreadable:
            turn.news.unreadable(entry)
        turn.run(commands, overdue)
        batch = turn.batch(self._shard, self._epoch, self._batch, entries)
        began = self._clock.now()
        await self._store.commit(batch)
        self._batch += 1
        self._act(turn, batch, self._clock.now() - began)
        return True

    def _act(self, turn: Turn, batch: Batch, commit_seconds: float) -> None:
        """The batch is committed: now it may be shown, and workers may be told."""
        for job in turn.started:
            assert self.books is not None and job.started_at is not None
            if job.state is not JobState.FINISHED:
                heappush(self._deadlines, (job.started_at + _limit(self.books, job), job.id))
        self._forget_deadlines()
        self._published(self._batch, batch.events)
        if turn.to_tell:
            self._told(turn.to_tell)
        counters = self.counters
        counters.turns += 1
        counters.commands += len(batch.inbox)
        counters.events += len(batch.events)
        counters.finished += len(batch.ended)
        counters.admitted += sum(event.type == "workload.started" for event in batch.events)
        counters.largest_turn = max(counters.largest_turn, len(batch.inbox))
        counters.commit_seconds += commit_seconds

    def _overdue(self, now: float) -> list[LiveJob]:
        """Jobs past their time limit and still not ended by their worker."""
        assert self.books is not None
        overdue = []
        while self._deadlines and self._deadlines[0][0] <= now:
            found = self.books.job(heappop(self._deadlines)[1])
            if found is not None and found[1].state in (JobState.RUNNING, JobState.UNKNOWN):
                overdue.append(found[1])
        return overdue

    def _forget_deadlines(self) -> None:
        """Those of ended jobs go when they are the most: a time limit can be a month."""
        assert self.books is not None
        if len(self._deadlines) > DEADLINES_KEPT + 2 * self.books.core.usage.boxes:
            books = self.books
            self._deadlines = [d for d in self._deadlines if books.runs(d[1])]
            heapify(self._deadlines)

    async def _sleep(self) -> None:
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes with the wake-up.
            async with asyncio.timeout(POLL_SECONDS):
                await self._awake.wait()
        except TimeoutError:
            pass


def _read(
    entries: Sequence[InboxEntry],
) -> tuple[list[InboxEntry], list[inbox.Command], list[InboxEntry]]:
    """As many entries as are one turn's, their commands, and those that no one can read: these go
    into the history, so that they hold up nobody and are not lost."""
    taken: list[InboxEntry] = []
    commands: list[inbox.Command] = []
    unreadable: list[InboxEntry] = []
    jobs = 0
    for entry in entries:
        taken.append(entry)
        try:
            command = inbox.read(entry.kind, entry.payload)
        except (KeyError, msgspec.DecodeError):
            log.exception("inbox entry %s of kind %r cannot be read", entry.id, entry.kind)
            unreadable.append(entry)
            continue
        commands.append(command)
        jobs += len(command.jobs) if isinstance(command, inbox.Submit) else 1
        if jobs >= JOBS_A_TURN:
            break
    return taken, commands, unreadable


def _limit(books: Books, job: LiveJob) -> float:
    live = books.workloads[job_workload(job.id)]
    return live.jobs[job_index(job.id)].timeout_seconds + TIME_LIMIT_SLACK_SECONDS
