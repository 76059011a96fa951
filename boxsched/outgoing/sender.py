"""The sender of a node: claims notifications that are due, delivers them, stores what came of it.

Each host has a few deliveries at once, and all hosts together have a limit: a receiver that hangs
holds up nobody but itself. Outcomes are stored together with the next claims, in one transaction a
round; the engine's transactions only add rows.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence

from boxsched.clock import Clock
from boxsched.errors import BoxschedError, SecretsUnusable
from boxsched.outgoing.composing import Composer, Undeliverable
from boxsched.outgoing.delivery import Answer, send
from boxsched.outgoing.guard import TOTAL_SECONDS, Guard
from boxsched.outgoing.retrying import GIVEN_UP_SECONDS, pause_after
from boxsched.store.records import Workload
from boxsched.store.steps.notifications import DEAD, DELIVERED, WAITING, Claimed, Settled
from boxsched.store.store import Store

PER_HOST = 16
AT_ONCE = 64
CLAIM_SECONDS = 30.0  # then another node may send it
POLL_SECONDS = 0.5
ROUND_SECONDS = 0.1  # between two rounds: what came of a few tries is stored together
AWAY_SECONDS = 2.0  # after a round that the store refused
MEASURE_SECONDS = 15.0
COUNTED_AT_MOST = 100_000
assert CLAIM_SECONDS > 3 * TOTAL_SECONDS

log = logging.getLogger(__name__)


class Sender:
    """``waiting``: how many notifications wait, in the whole service, as of the last look.
    ``counts``: how many tries of this node were delivered, failed, or were given up."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        guard: Guard,
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
        self._active: Counter[str] = Counter()  # deliveries under way, by host
        self._paused: dict[str, float] = {}  # by host: until when, as its answers asked for
        self._settled: list[Settled] = []  # not stored yet
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()  # a delivery ended

    async def run(self) -> None:
        """Until it is cancelled. Deliveries under way then are sent again by another node."""
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
        """One round: store outcomes, claim what is due and begin to deliver it. Returns how many
        deliveries began."""
        now = self._clock.now()
        rooms = self._rooms(await self._store.due_hosts(now), now)
        if not (rooms or self._settled):
            return 0
        settled, self._settled = self._settled, []
        try:
            claimed = await self._store.settle_and_claim(settled, rooms, now, now + CLAIM_SECONDS)
        except BoxschedError:
            self._settled = settled + self._settled  # to store them twice changes nothing
            raise
        if claimed:
            ids = list(dict.fromkeys(one.workload for one in claimed))
            workloads = {one.id: one for one in await self._store.workloads_of(ids)}
            self._begin([(one, workloads[one.workload]) for one in claimed])
        return len(claimed)

    async def idle(self) -> None:
        """Return when no delivery is under way."""
        await asyncio.gather(*self._tasks)

    def _rooms(self, hosts: Sequence[str], now: float) -> list[tuple[str, int]]:
        """How many more deliveries each host may have, within the limit of all."""
        self._paused = {host: until for host, until in self._paused.items() if until > now}
        left = AT_ONCE - self._active.total()
        rooms = []
        # Those with the fewest under way come first: nobody is passed over for long.
        for host in sorted(hosts, key=lambda host: self._active[host]):
            room = min(PER_HOST - self._active[host], left)
            if room > 0 and host not in self._paused:
                rooms.append((host, room))
                left -= room
        return rooms

    def _begin(self, claimed: Sequence[tuple[Claimed, Workload]]) -> None:
        for one, workload in claimed:
            self._active[one.host] += 1
            task = asyncio.create_task(self._deliver(one, workload))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, one: Claimed, workload: Workload) -> None:
        try:
            answer = await self._try(one, workload)
        finally:
            self._active[one.host] -= 1
            if not self._active[one.host]:
                del self._active[one.host]
        self._settled.append(self._outcome(one, answer))
        self._ended.set()

    async def _try(self, one: Claimed, workload: Workload) -> Answer:
        now = self._clock.now()
        try:
            request = self._composer.request(one, workload, now)
        except Undeliverable as error:
            return Answer(None, str(error), lasting=True)
        except SecretsUnusable as error:
            return Answer(None, error.message)
        except Exception as error:
            log.error("notification %s could not be composed", one.id, exc_info=error)
            return Answer(None, f"it could not be composed: {type(error).__name__}")
        return await send(self._guard, request, now)

    def _outcome(self, one: Claimed, answer: Answer) -> Settled:
        now = self._clock.now()
        if answer.error is None:
            self.counts["delivered"] += 1
            return Settled(one, DELIVERED, now, one.failures, answer.status, None, now)
        failures = one.failures + 1
        if answer.lasting or now >= one.since + GIVEN_UP_SECONDS:
            self.counts["dead"] += 1
            return Settled(one, DEAD, now, failures, answer.status, answer.error, now)
        self.counts["failed"] += 1
        if answer.pause:
            self._paused[one.host] = now + answer.pause
        due = now + max(pause_after(failures, self._chance()), answer.pause)
        return Settled(one, WAITING, due, failures, answer.status, answer.error)

    async def _something_ended(self) -> None:
        """Return when a delivery ended, or when it is time to look again."""
        try:
            async with asyncio.timeout(POLL_SECONDS):
                await self._ended.wait()
        except TimeoutError:
            pass
        self._ended.clear()
