"""The engine's task: turns, one after the other, for as long as it leads its shard."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from heapq import heapify, heappop, heappush

import attrs
import msgspec

from boxsched import inbox
from boxsched.clock import Clock
from boxsched.engine.books import Books, LiveJob, Loading
from boxsched.engine.turn import Turn
from boxsched.engine.watch import NOTHING_SEEN, Sights, Watch
from boxsched.errors import Fenced, StoreAway
from boxsched.model import JobId, WorkerId, job_index, job_workload
from boxsched.states import JobState
from boxsched.store.batches import Batch, Event, InboxEntry
from boxsched.store.contract import Store

log = logging.getLogger(__name__)

COMMANDS_A_TURN = 1_000
JOBS_A_TURN = 1_000  # a turn holds the event loop: tens of milliseconds at the most
DEADLINES_KEPT = 1_000  # of ended jobs
RETRY_SECONDS = 0.5  # after the store was away
WATCH_SECONDS = 1.0  # between two looks at the workers' beats
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
    fenced: int = 0  # stale writes that the store refused
    largest_turn: int = 0
    commit_seconds: float = 0.0


class Engine:
    """Leads one shard, for as long as ``may_lead`` says.

    ``published`` gets each batch's number and events; ``reloaded`` is called when one may have been
    committed without that; ``told`` gets the workers that have something to look up, with the node
    that each is connected to; ``alive``: whether the node of that name is, as far as one can know.
    ``lost_after``: seconds after which a build's job ends by itself where no node is heard from, on
    workers that were promised nothing else. ``counters`` are the node's, of all its engines.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        shard: int,
        node: str,
        may_lead: Callable[[], bool],
        published: Callable[[int, Sequence[Event]], None],
        reloaded: Callable[[], None],
        told: Callable[[Mapping[WorkerId, str]], None],
        alive: Callable[[str], bool],
        lost_after: float,
        counters: Counters,
    ) -> None:
        self._store = store
        self._clock = clock
        self._shard = shard
        self._node = node
        self._may_lead = may_lead
        self._published = published
        self._reloaded = reloaded
        self._told = told
        self._alive = alive
        self._watch = Watch(lost_after)
        self._watched_at = 0.0
        self._awake = asyncio.Event()
        self._unsettled = True  # since the books were loaded
        self._epoch = 0
        self._batch = 0
        # (deadline, job, attempt): from the store's times, so they outlive any crash.
        self._deadlines: list[tuple[float, JobId, int]] = []
        self.books: Books | None = None  # None while the shard is not loaded
        self.counters = counters

    def wake(self) -> None:
        """There may be something in the inbox."""
        self._awake.set()

    @property
    def leads(self) -> bool:
        return self.books is not None

    async def run(self) -> None:
        """Turns for as long as it may lead; the store may come and go."""
        try:
            while self._may_lead():
                try:
                    if self.books is None:
                        await self.load()
                    elif not await self.turn():
                        await self._sleep(POLL_SECONDS)
                except (StoreAway, Fenced) as error:
                    # Whatever was decided in memory is not, or may not be, in the store.
                    self.books = None
                    self.counters.fenced += isinstance(error, Fenced)
                    why = " ".join(error.message.split())
                    log.warning("shard %s: %s; loading it again", self._shard, why)
                    if self._may_lead():
                        self._awake.clear()
                        await self._sleep(RETRY_SECONDS)
        finally:
            self.books = None

    async def load(self) -> None:
        """Lead the shard: raise its epoch, and fill the books from the store."""
        epoch = await self._store.raise_epoch(self._shard, self._node)
        loading = Loading()
        await self._store.load(self._shard, loading)
        state = loading.state
        assert state is not None
        if state.epoch != epoch:
            raise Fenced("another leads the shard by now")
        books = loading.finish()
        self._epoch, self._batch = epoch, state.batch
        self._clock.not_before(books.latest)
        self._deadlines = [
            (job.started_at + _limit(books, job), job.id, job.attempt)
            for workload in books.workloads.values()
            for job in workload.running or ()
            if job.started_at is not None and job.state is not JobState.FINISHED
        ]
        heapify(self._deadlines)
        self._watch.begin(state.pulses, self._clock.monotonic(), books.workers)
        self.books = books
        self._unsettled = True
        self.counters.loads += 1
        log.info(
            "shard %d loaded: epoch %d, %d unfinished", self._shard, epoch, len(books.workloads)
        )
        self._reloaded()
        self._told({worker: books.places.get(worker, "") for worker in books.workers})

    async def turn(self) -> bool:
        """One turn; False where there was nothing to do."""
        assert self.books is not None
        self._awake.clear()
        entries = await self._store.inbox(self._shard, COMMANDS_A_TURN)
        sights = await self._look_for_workers()
        now = max(self._clock.now(), self.books.latest)
        overdue = self._overdue(now)
        if not (entries or overdue or sights or self._unsettled):
            return False
        entries, commands, unreadable = _read(entries)
        # Another node's clock may be ahead: nothing is queued before it was created.
        now = max([now, *(c.created_at for c in commands if isinstance(c, inbox.Submit))])
        self.books.latest = now
        turn = Turn(self.books, now, self._batch + 1)
        for entry in unreadable:
            turn.news.unreadable(entry)
        turn.run(commands, overdue, sights)
        self._unsettled = False
        if not entries and turn.draft.empty and not turn.news.events:
            return False
        batch = turn.draft.batch(self._shard, self._epoch, self._batch, entries, turn.news.events)
        began = self._clock.now()
        await self._store.commit(batch)
        self._batch += 1
        self._act(turn, batch, self._clock.now() - began)
        if sights.connections:
            # Each is to connect anew, and to say what it has: also one that was only slow.
            await self._store.disconnect_workers(sights.connections)
        for command in commands:
            if isinstance(command, inbox.BoxesSet):
                worker = WorkerId(command.worker)
                if command.connection == turn.books.connections.get(worker):  # not a late word
                    self._watch.connected(worker, self._clock.monotonic())
            elif isinstance(command, inbox.Reload):
                self.books = None  # loaded anew before the next turn
        return True

    async def _look_for_workers(self) -> Sights:
        """Who went and who is back; now and then."""
        now = self._clock.monotonic()
        if now - self._watched_at < WATCH_SECONDS:
            return NOTHING_SEEN
        pulses = await self._store.pulses(self._shard)
        assert self.books is not None
        self._watched_at = self._clock.monotonic()
        if self._watched_at - now > WATCH_SECONDS:
            # The store was slow: beats may be, too.
            self._watch.begin_anew(self._watched_at)
        for pulse in pulses:
            self.books.places[pulse.worker] = pulse.node
        self.books.names = {pulse.worker: pulse.name for pulse in pulses}
        gone = {node for node in {pulse.node for pulse in pulses} if not self._alive(node)}
        return self._watch.look(pulses, self._watched_at, gone)

    def _act(self, turn: Turn, batch: Batch, commit_seconds: float) -> None:
        """The batch is committed: now it may be shown, and workers may be told."""
        assert self.books is not None
        for job in turn.started:
            if job.started_at is not None and job.state is not JobState.FINISHED:
                deadline = job.started_at + _limit(self.books, job)
                heappush(self._deadlines, (deadline, job.id, job.attempt))
        self._forget_deadlines()
        self._published(self._batch, batch.events)
        if turn.to_tell:
            places = self.books.places
            self._told({worker: places.get(worker, "") for worker in turn.to_tell})
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
            _, id_, attempt = heappop(self._deadlines)
            found = self.books.job(id_)
            if found is None or found[1].attempt != attempt or id_ in self.books.lost:
                continue
            if found[1].state in (JobState.RUNNING, JobState.UNKNOWN):
                overdue.append(found[1])
        return overdue

    def _forget_deadlines(self) -> None:
        """Those of ended jobs go when they are the most: a time limit can be a month."""
        assert self.books is not None
        if len(self._deadlines) > DEADLINES_KEPT + 2 * self.books.core.usage.boxes:
            books = self.books
            self._deadlines = [d for d in self._deadlines if books.runs(d[1])]
            heapify(self._deadlines)

    async def _sleep(self, seconds: float) -> None:
        """Until there is news, at the most so long."""
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that comes with the wake-up.
            async with asyncio.timeout(seconds):
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
        jobs += _weight(command)
        if jobs >= JOBS_A_TURN:
            break
    return taken, commands, unreadable


def _limit(books: Books, job: LiveJob) -> float:
    live = books.workloads[job_workload(job.id)]
    return live.jobs[job_index(job.id)].timeout_seconds + TIME_LIMIT_SLACK_SECONDS


def _weight(command: inbox.Command) -> int:
    """In jobs, about."""
    if isinstance(command, inbox.Submit):
        return len(command.jobs)
    return max(1, len(command.boxes)) if isinstance(command, inbox.BoxesSet) else 1
