"""The sender of a node: it claims due notifications, delivers them, and stores the outcomes.

There is a limit of simultaneous deliveries for each host and for all hosts together, so a receiver
that hangs delays no other; failing hosts also have a limit of tries a second. Outcomes are stored
together with the next claims, in one transaction each round; the engine's transactions only add
rows.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence

from boxsched.clock import Clock
from boxsched.errors import BoxschedError, SecretsUnusable
from boxsched.outgoing.composing import Composer, Undeliverable
from boxsched.outgoing.delivery import SendOutcome, send
from boxsched.outgoing.failing_hosts import FailingHosts
from boxsched.outgoing.guard import TOTAL_SECONDS, AddressGuard
from boxsched.outgoing.retrying import GIVEN_UP_SECONDS, pause_after
from boxsched.pace import HEAVY_JOBS, LoopPace
from boxsched.store.records import Workload
from boxsched.store.steps.notifications import DEAD, DELIVERED, WAITING, Claimed, Settled
from boxsched.store.store import Store

PER_HOST = 16
AT_ONCE = 64
CLAIM_SECONDS = 30.0  # after this time another node may send the notification
POLL_SECONDS = 0.5
ROUND_SECONDS = 0.1  # between two rounds, so that several outcomes are stored together
HOST_PAUSE_SECONDS = 600.0  # a receiver shares its host with others: it stops them no longer
AWAY_SECONDS = 2.0  # pause after a round in which the store was away
MEASURE_SECONDS = 15.0
COUNTED_AT_MOST = 100_000
assert CLAIM_SECONDS > 3 * TOTAL_SECONDS

log = logging.getLogger(__name__)


class Sender:
    """``waiting``: how many notifications of the whole service waited at the last look.

    ``counts``: how many tries of this node were delivered, failed or were the last one.
    """

    def __init__(
        self,
        store: Store,
        clock: Clock,
        guard: AddressGuard,
        composer: Composer,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.waiting = 0
        self.counts: Counter[str] = Counter()
        self._store = store
        self._clock = clock
        self._guard = guard
        self._composer = composer
        self._chance = chance
        self._active: Counter[str] = Counter()  # active deliveries by host
        self._paused: dict[str, float] = {}  # end of the pause that a host asked for
        self._failing = FailingHosts(clock)
        self._settled: list[Settled] = []  # outcomes that are not stored yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()  # a delivery ended
        self._pace = LoopPace()

    async def run(self) -> None:
        """Run until cancelled. Another node repeats the deliveries that are active then."""
        measured = -MEASURE_SECONDS
        try:
            while True:
                pause = ROUND_SECONDS
                try:
                    await self.run_once()
                    if self._clock.monotonic() - measured >= MEASURE_SECONDS:
                        measured = self._clock.monotonic()
                        self.waiting = await self._store.waiting_notifications(COUNTED_AT_MOST)
                except BoxschedError as error:
                    log.info("no notifications were sent this time: %s", error.message)
                    pause = AWAY_SECONDS
                await asyncio.sleep(pause)
                await self._something_ended()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await self._guard.close()

    async def run_once(self) -> int:
        """Store outcomes, claim due notifications and begin to deliver them.

        Return how many deliveries began.
        """
        now = self._clock.now()
        rooms = self._rooms(await self._store.due_hosts(now), now)
        if not (rooms or self._settled):
            return 0
        settled, self._settled = self._settled, []
        try:
            claimed = await self._store.settle_and_claim(settled, rooms, now, now + CLAIM_SECONDS)
        except BoxschedError:
            self._settled = settled + self._settled  # storing an outcome twice does no harm
            raise
        if claimed:
            ids = list(dict.fromkeys(one.workload for one in claimed))
            parts = self._store.workloads_in_parts(ids)
            workloads = {one.id: one async for part in parts for one in part}
            # Signed with the database's time: this node's clock stands still while its virtual
            # machine is stopped, and receivers refuse old signatures.
            signed_at = await self._store.time()
            # The notifications of a deleted workload were deleted with it.
            self._begin(
                [(one, workloads[one.workload]) for one in claimed if one.workload in workloads],
                signed_at,
            )
        return len(claimed)

    async def idle(self) -> None:
        """Return when no delivery is active."""
        await asyncio.gather(*self._tasks)

    def _rooms(self, hosts: Sequence[str], now: float) -> list[tuple[str, int]]:
        """Return how many more deliveries each host may have, within the limit for all."""
        self._paused = {host: until for host, until in self._paused.items() if until > now}
        left = AT_ONCE - self._active.total()
        tries = self._failing.tries()
        tries -= sum(count for host, count in self._active.items() if host in self._failing)
        rooms = []
        for host in sorted(set(hosts) - self._paused.keys(), key=self._turn):
            room = min(PER_HOST - self._active[host], left)
            if host in self._failing:
                room = min(room, tries)
                tries -= max(room, 0)
            if room > 0:
                rooms.append((host, room))
                left -= room
        return rooms

    def _turn(self, host: str) -> tuple[bool, int, float]:
        """Failing hosts come last, and hosts with the fewest active deliveries first, else by
        chance, so that no host waits for long.
        """
        return host in self._failing, self._active[host], self._chance()

    def _begin(self, claimed: Sequence[tuple[Claimed, Workload]], signed_at: float) -> None:
        for one, workload in claimed:
            self._active[one.host] += 1
            task = asyncio.create_task(self._deliver(one, workload, signed_at))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, one: Claimed, workload: Workload, signed_at: float) -> None:
        try:
            if len(workload.jobs) >= HEAVY_JOBS:
                await self._pace.step()
            answer = await self._try(one, workload, signed_at)
        finally:
            self._active[one.host] -= 1
            if not self._active[one.host]:
                del self._active[one.host]
        self._settled.append(self._outcome(one, answer))
        self._ended.set()

    async def _try(self, one: Claimed, workload: Workload, signed_at: float) -> SendOutcome:
        try:
            request = self._composer.request(one, workload, signed_at)
        except Undeliverable as error:
            return SendOutcome(None, str(error), lasting=True)
        except SecretsUnusable as error:
            return SendOutcome(None, error.message)
        except Exception as error:  # else this notification would be tried forever
            log.error("notification %s could not be composed", one.id, exc_info=error)
            return SendOutcome(None, f"it could not be composed: {type(error).__name__}")
        try:
            return await send(self._guard, request, signed_at)
        except Exception as error:  # the same: this try counts, and the next one comes later
            log.error("notification %s could not be sent", one.id, exc_info=error)
            return SendOutcome(None, f"it could not be sent: {type(error).__name__}")

    def _outcome(self, one: Claimed, answer: SendOutcome) -> Settled:
        now = self._clock.now()
        if answer.error is None:
            self.counts["delivered"] += 1
            self._failing.delivered(one.host)
            return Settled(one, DELIVERED, now, one.failures, answer.status, None, now)
        self._failing.failed(one.host)
        failures = one.failures + 1
        if answer.lasting or now >= one.since + GIVEN_UP_SECONDS:
            self.counts["dead"] += 1
            return Settled(one, DEAD, now, failures, answer.status, answer.error, now)
        self.counts["failed"] += 1
        if answer.pause:
            self._paused[one.host] = now + min(answer.pause, HOST_PAUSE_SECONDS)
        due = now + max(pause_after(failures, self._chance()), answer.pause)
        return Settled(one, WAITING, due, failures, answer.status, answer.error)

    async def _something_ended(self) -> None:
        """Return when a delivery has ended, or when it is time to look again."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            pass
        self._ended.clear()
