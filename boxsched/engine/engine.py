"""The engine's task: it runs turns, one after the other, while it leads its shard."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

import attrs

from boxsched.clock import Clock
from boxsched.engine import draining, pauses, turn
from boxsched.engine.books import Books
from boxsched.engine.caution import COMMANDS_A_TURN, said, set_aside
from boxsched.engine.decided import Decided
from boxsched.engine.direct import WaitingReports
from boxsched.engine.draft import Draft
from boxsched.engine.entries import read
from boxsched.engine.intake import Intake
from boxsched.engine.limits import Deadlines
from boxsched.engine.loading import Loading
from boxsched.engine.news import News
from boxsched.engine.outcomes import Outcomes
from boxsched.engine.stages import Stages
from boxsched.engine.tally import Counters, Tally
from boxsched.engine.worker_monitor import WorkerMonitor
from boxsched.errors import Fenced, OutcomeUnknown, StoreAway
from boxsched.model import WorkerId
from boxsched.protocol import inbox
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.batches import Batch, Event, InboxEntry
from boxsched.protocol.fingerprint import Parts
from boxsched.store.store import Store

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.5  # before the next try, while the store is away
LEVEL_AT_MOST = 256  # busy Boxes: with more, the level is read separately, once for several batches
POLL_SECONDS = 0.2  # between two looks for what has become due
READ_SECONDS = 1.0  # interval of reading the inbox without a wake-up (``node.polling`` wakes)


class Engine:
    """Leads one shard while ``may_lead`` returns True.

    ``published``: called with each batch's number and events. ``reloaded``: called when a batch may
    have been committed without a call of ``published``. ``notify``: called with the workers that
    must look up their jobs, the node that each is connected to, and the assignments of the
    in-process worker ``local``, if they are known. ``due``: called when builds must be deployed or
    planned. ``alive``: whether the node of that name is alive, as far as this node knows.
    ``stop_grace``: seconds between SIGTERM and SIGKILL on workers that do not report theirs.
    ``lost_after``: seconds without an answer from a node after which a worker ends its builds,
    unless the worker was promised another value. ``required``: the values of parts that
    fingerprints of workers must have. ``counters`` and ``stages`` are the node's.
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
        notify: Callable[[Mapping[WorkerId, str], Sequence[Assignment] | None], None],
        local: Callable[[], WorkerId | None],
        due: Callable[[], None],
        alive: Callable[[str], bool],
        lost_after: float,
        stop_grace: float,
        required: Parts,
        counters: Counters,
        stages: Stages,
    ) -> None:
        self._store = store
        self._clock = clock
        self._shard = shard
        self._node = node
        self._may_lead = may_lead
        self._published = published
        self._reloaded = reloaded
        self._notify = notify
        self._due = due
        self._local = local
        self._awake = asyncio.Event()
        self._idle_lanes: Sequence[str] = ()  # to be told to the core
        self._unsettled = True  # no turn has run since the books were loaded
        self._reads = True  # whether the next turn reads the inbox
        self._read_next = 0.0  # when it is read next without a wake-up, by the monotonic clock
        self._intake = Intake(store, shard)
        self._epoch = 0
        self._batch = 0
        self._required = required
        self._in_epoch = False  # whether the epoch is this engine's, as far as it knows
        self._deadlines = Deadlines(stop_grace)
        self._monitor = WorkerMonitor(store, shard, clock, self._deadlines, alive, lost_after)
        self.books: Books | None = None  # None while the shard is not loaded
        # the decisions of a turn that are not completely processed yet
        self._decided: Decided | None = None
        self.in_doubt = False  # the books contain changes that may not be in the store
        self.counters = counters
        self._tally = Tally(clock, counters, stages)

    def wake(self) -> None:
        """Take a turn soon, because the inbox may have new entries."""
        self._awake.set()

    def report(self, command: inbox.Reports) -> asyncio.Future[None] | None:
        """Take reports of a worker that is connected to this node.

        The future is done when they are durable. None: not taken now; put them into the inbox.
        """
        if self.books is None or self.in_doubt:
            return None
        future = self._intake.report(command, self._clock.monotonic())
        if future is not None:
            self.wake()
        return future

    def lanes_idle(self, lanes: Sequence[str]) -> None:
        """Forget the counts of these lanes, which had no build for a long time, in the next turn.
        If that turn fails, it is left to a later call.
        """
        self._idle_lanes = lanes
        self.wake()

    @property
    def shard(self) -> int:
        return self._shard

    @property
    def leads(self) -> bool:
        return self.books is not None

    async def run(self) -> None:
        """Take turns while it may lead; continue after outages of the store."""
        try:
            while self._may_lead():
                try:
                    if not await self.step():
                        await self._sleep(POLL_SECONDS)
                        due = self._clock.monotonic() >= self._read_next
                        self._reads = due or self._awake.is_set()
                except StoreAway:
                    self.in_doubt = self._decided is not None
                    await self._pause()
                except Fenced as error:
                    self._drop()
                    self._in_epoch = False
                    self.counters.fenced += 1
                    why = " ".join(error.message.split())
                    log.warning("shard %s: %s; loading it again", self._shard, why)
                    await self._pause()
                else:
                    self.in_doubt = False
        finally:
            self._drop()

    def _drop(self) -> None:
        for each in () if self._decided is None else self._decided.said:
            each.failed()
        self._intake.drop()
        self.books = self._decided = None
        self.in_doubt = False

    async def _pause(self) -> None:
        """Wait before the next try; not if the leadership has ended."""
        if self._may_lead():
            self._awake.clear()
            await self._sleep(RETRY_SECONDS)

    async def step(self) -> bool:
        """Load the shard, or take a turn. Returns False if there was nothing to do."""
        if self.books is None:
            await self.load()
            return True
        return await self.turn()

    async def load(self) -> None:
        """Lead the shard: raise its epoch, and fill the books from the store.

        If a load fails, or is made for a change of settings, the epoch stays. It is raised again
        only if another node may have raised it.
        """
        if not self._in_epoch:
            self._epoch = await self._store.raise_epoch(self._shard, self._node)
            self._in_epoch = True
        loading = Loading(self._required)
        await self._store.load(self._shard, loading)
        state = loading.state
        assert state is not None
        if state.epoch != self._epoch:
            raise Fenced("another node leads the shard now")
        books = loading.finish()
        self._batch = state.batch
        self._clock.not_before(books.latest)
        self._monitor.begin(state, books)
        self.books = books
        self._unsettled = True
        self.counters.loads += 1
        log.info(
            "shard %d loaded: epoch %d, %d unfinished",
            self._shard,
            self._epoch,
            len(books.workloads),
        )
        self._reloaded()
        self._notify({worker: books.places.get(worker, "") for worker in books.workers}, None)

    async def turn(self) -> bool:
        """Run a turn, or the rest of one. Return False if there was nothing to do.

        After StoreAway, the decisions wait for the next call.
        """
        if self._decided is None and not await self._begin():
            return self._intake.caution.goes_on
        decided = self._decided
        if decided is not None:
            try:
                await self._finish(decided)
            except (StoreAway, Fenced):
                raise
            except Exception as error:  # noqa: BLE001 (what the store refuses must not end the node)
                now, alone = decided.outcomes.now, decided.alone
                await self._raised(error, decided.taken.entries, decided.said, now, alone=alone)
        return True

    async def _begin(self) -> bool:
        """Read new entries and decide. Return False if there is nothing to commit."""
        assert self.books is not None
        if not self._intake.has_read_ahead:
            self._awake.clear()
        try:
            if self._deadlines.are_due(self._clock.monotonic()):
                await self._monitor.let_others_write()
            entries = await self._commands()
            resolves = any(entry.kind == inbox.RESOLVE for entry in entries)
            sights = await self._monitor.look(self.books, at_once=resolves)
        except StoreAway:
            self._monitor.held_up = True
            raise
        now = max(self._clock.now(), self.books.latest)
        overdue = self._deadlines.overdue(self.books, self._clock.monotonic())
        reports = self._intake.reports(settled=not self._unsettled)
        over = bool(pauses.over(self.books, now) or draining.overdue(self.books, now))
        idle, self._idle_lanes = self._idle_lanes, ()
        if not (entries or reports or overdue or sights or over or idle or self._unsettled):
            return False
        began = self._clock.monotonic()
        taken = read(entries)
        # Another node's clock may be ahead: nothing is queued before it was created.
        now = max([now, *(c.created_at for c in taken.commands if isinstance(c, inbox.Submit))])
        self.books.latest = now
        alone = not (reports or overdue or sights or over or idle or self._unsettled)
        out = Outcomes(self.books, now, self._batch + 1)
        try:
            for entry, error in taken.unreadable:
                out.news.set_aside(entry, error)
            commands = [*(each.command for each in reports), *taken.commands]
            turn.run(out, commands, overdue, sights, idle)
        except Exception as mistake:  # noqa: BLE001 (whatever it is, it must not end the node)
            await self._raised(mistake, taken.entries, reports, now, alone=alone)
            return True
        if not taken.entries and out.draft.empty and not out.news.events:
            self._went_well(taken.entries)
            for each in reports:
                each.done()  # these reports changed nothing
            return bool(reports)
        drafted = out.draft.batch(
            self._shard, self._epoch, self._batch, taken.entries, out.news.events
        )
        aside = tuple(set_aside(entry, error, now) for entry, error in taken.unreadable)
        batch = attrs.evolve(drafted, set_aside=aside, notices=tuple(out.news.notices))
        self._decided = Decided(out, batch, taken, sights, alone, reports, began)
        self._decided.seconds = self._clock.monotonic() - began
        return True

    async def _commands(self) -> list[InboxEntry]:
        """Return the next commands; without a wake-up, the inbox is read once in READ_SECONDS."""
        if not (self._reads or self._intake.has_read_ahead):
            return []
        self._reads = True
        self._read_next = self._clock.monotonic() + READ_SECONDS
        return await self._intake.commands(settled=not self._unsettled)

    def _went_well(self, entries: Sequence[InboxEntry]) -> None:
        self._unsettled = False
        self._intake.caution.went_well(len(entries))

    async def _raised(
        self,
        error: Exception,
        entries: Sequence[InboxEntry],
        reports: Sequence[WaitingReports],
        now: float,
        *,
        alone: bool,
    ) -> None:
        """After a turn that raised, load the shard again, and set aside the command that caused it,
        if known.
        """
        books = self.books
        assert books is not None
        self._intake.fail(reports, self._clock.monotonic())
        self._drop()  # the books are only partly changed
        if await self._store.batch_number(self._shard) != (self._epoch, self._batch):
            # The database has another history, without batches that are in the books.
            raise Fenced("the books belong to another history") from error
        if reports and not entries:
            log.error("shard %s: a turn of reports raised", self._shard, exc_info=error)
            return
        entry = self._intake.caution.to_blame(entries, alone=alone)
        if entry is None:
            log.error("shard %s: a turn raised; loading it again", self._shard, exc_info=error)
            if self._intake.caution.gives_up:
                raise error
            return
        log.error("command %d (%s) is set aside", entry.id, entry.kind, exc_info=error)
        why = said(error)
        news = News(books, now)
        news.set_aside(entry, why)
        drafted = Draft(now).batch(self._shard, self._epoch, self._batch, [entry], news.events)
        batch = attrs.evolve(
            drafted, set_aside=(set_aside(entry, why, now),), notices=tuple(news.notices)
        )
        try:
            await self._store.commit(batch)
        except OutcomeUnknown:
            self._in_epoch = False  # otherwise a late write might be taken for the next batch
            raise
        self._batch += 1
        self.counters.set_aside += 1
        self._published(self._batch, batch.events)

    async def _finish(self, decided: Decided) -> None:
        """Commit the decisions and act on them; after StoreAway, call it again.

        The same batch is sent again until the store answers; the fence accepts it once. So the
        books stay valid, however slow the store is. Raises Fenced if the batch will never be in the
        store.
        """
        out, batch = decided.outcomes, decided.batch
        if not decided.committed:
            began = self._clock.monotonic()
            try:
                local = self._local()
                small = out.books.core.usage.boxes <= LEVEL_AT_MOST
                level_of = local if small and local in out.to_notify else None
                committed = await self._store.commit(batch, COMMANDS_A_TURN, level_of)
                self._intake.read_ahead(committed.inbox)
                decided.level = committed.level
            except OutcomeUnknown:
                decided.may_be_there = True
                raise
            except Fenced:
                if not decided.may_be_there or not await self._is_there(batch):
                    raise
            decided.committed = True
            self._went_well(decided.taken.entries)
            self._batch += 1
            for each in decided.said:
                each.done()
            self._act(decided, self._clock.monotonic() - began)
        if connections := (*decided.sights.connections, *out.hung_up.values()):
            # Each worker must connect again and report its jobs, also one that was only slow.
            await self._store.disconnect_workers(connections)
        self._decided = None
        for command in decided.taken.commands:
            if isinstance(command, inbox.BoxesSet):
                worker = WorkerId(command.worker)
                # not a late command of an earlier connection
                if command.connection == out.books.connections.get(worker):
                    self._monitor.connected(worker)
            elif isinstance(command, inbox.Reload):
                self.books = None  # loaded again before the next turn

    async def _is_there(self, batch: Batch) -> bool:
        """Only this engine writes in its epoch, and one batch at a time."""
        return await self._store.batch_number(self._shard) == (batch.epoch, batch.batch + 1)

    def _act(self, decided: Decided, commit_seconds: float) -> None:
        """Publish the events of the committed batch, and notify the workers."""
        out, batch = decided.outcomes, decided.batch
        assert self.books is not None
        now = self._clock.monotonic()
        for job in out.timed:
            self._deadlines.add(self.books, job, now)
        self._deadlines.forget_ended(self.books)
        for worker, problem in out.problems.items():
            _log_problem(self.books.names.get(worker, str(worker)), problem)
        self._published(self._batch, batch.events)
        if batch.deploys_due or out.unplanned or out.settings_changed:
            self._due()
        if out.to_notify:
            places = self.books.places
            self._notify(
                {worker: places.get(worker, "") for worker in out.to_notify}, decided.level
            )
        self._tally.committed(decided, commit_seconds)

    async def _sleep(self, seconds: float) -> None:
        """Sleep until ``wake`` is called, at most this long."""
        try:
            # Not wait_for: in Python 3.11 it loses a cancellation that arrives with the wake-up.
            async with asyncio.timeout(seconds):
                await self._awake.wait()
        except TimeoutError:
            pass


def _log_problem(worker: str, problem: str | None) -> None:
    if problem is None:
        log.info("worker %s can begin jobs again", worker)
    else:
        log.warning("worker %s cannot begin jobs, and gets none until it can: %s", worker, problem)
