"""Schedules: build a branch at the times of a cron expression.

The next time of every schedule is in the store, so a new leader needs nothing else. A node has one
timer, for the earliest time. The leading node submits the build with an idempotency key made of the
schedule and its planned time. The transaction that stores the build also stores the schedule's next
time. It is refused if another transaction has already done so. So each time has at most one build,
even if a node dies or a former leader comes back.

Times come from the database's clock. If that clock was set back, some schedules have a next time
that was chosen in the future. Their next times are computed again; the idempotency keys show which
times already had a build.
"""

import asyncio
import hashlib
import logging
from collections.abc import Coroutine, Iterable

import attrs

from boxsched.api.messages.requests import AskBuild
from boxsched.api.submitting import new_workloads
from boxsched.api.submitting.known_projects import Known, KnownProjects, settings_of
from boxsched.api.submitting.project_schedules import first_times, named
from boxsched.automation import LOOK_SECONDS
from boxsched.automation.firings import after_clock_change, firing, skip_due_times
from boxsched.cron import local_time
from boxsched.errors import BoxschedError, Invalid, NotFound
from boxsched.model import OrganizationId
from boxsched.node.node import Node
from boxsched.protocol.schedules import DueSchedule, Firing, Schedule
from boxsched.protocol.shards import SHARD
from boxsched.said_times import SCHEDULED
from boxsched.store.records import IdempotencyKey, NewWorkload, Submitted

log = logging.getLogger(__name__)

LEAST_SECONDS = 0.05  # shortest pause between two queries
AT_ONCE = 100  # schedules in one query
SUBMITTED_AT_ONCE = 20
CLOCK_SLACK_SECONDS = 60.0  # a clock set back by less cannot hide a schedule's time
BY = "schedule"


class Schedules:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._store = node.store
        self._known = known

    async def run(self) -> None:
        """Run until cancelled. After an outage of the database the next round tries again."""
        pause = 0.0
        while True:
            try:
                async with asyncio.timeout(pause):
                    await self._node.schedules_due.wait()
            except TimeoutError:
                pass
            self._node.schedules_due.clear()
            pause = LOOK_SECONDS
            if SHARD not in self._node.leadership.led:
                continue
            try:
                pause = await self.run_once()
            except BoxschedError as error:
                log.info("schedules wait: %s", error.message)

    async def run_once(self) -> float:
        """Submit what is due; return the number of seconds until the next round."""
        began = self._node.clock.monotonic()
        now = await self._store.time()
        # 1. Read schedules from settings that an earlier version has written.
        await self._read_settings(now)
        # 2. Compute next times again if the clock was set back after they were chosen.
        await self._handle_clock_change(now)
        # 3. Submit the builds that are due.
        due = await self._store.due_schedules(now, AT_ONCE)
        if due:
            await self._fire(due, now)
        # 4. Find out when the next build is due.
        next_at = await self._store.next_schedule()
        if next_at is None:
            return LOOK_SECONDS
        passed = self._node.clock.monotonic() - began
        return min(max(next_at - now - passed, LEAST_SECONDS), LOOK_SECONDS)

    async def _read_settings(self, now: float) -> None:
        for project in await self._store.unscheduled(AT_ONCE):
            try:
                schedules = await first_times(settings_of(project), now)
            except Invalid as error:
                log.warning("the schedules of %s cannot be read: %s", project.name, error.message)
                schedules = ()
            await self._store.schedule_anew(project.id, project.version, schedules, now)

    async def _handle_clock_change(self, now: float) -> None:
        ahead = await self._store.ahead_schedules(now + CLOCK_SLACK_SECONDS, AT_ONCE)
        if ahead:
            log.warning("the clock was set back: schedules continue from now")
            changed = await asyncio.to_thread(
                lambda: [after_clock_change(one, now) for one in ahead]
            )
            await self._store.settle_schedules(changed)

    async def _fire(self, due: list[DueSchedule], now: float) -> None:
        """Process the due schedules, a few at a time; after an outage the rest wait for the next
        round.
        """
        firings = await asyncio.to_thread(lambda: [firing(one, now) for one in due])
        known = {owner: await self._look_up(*owner) for owner in {one.owner for one in due}}
        pairs = list(zip(due, firings, strict=True))
        for start in range(0, len(pairs), SUBMITTED_AT_ONCE):
            some = pairs[start : start + SUBMITTED_AT_ONCE]
            await _all_of(self._build(one, what, known[one.owner]) for one, what in some)

    async def _look_up(self, organization: OrganizationId, project: str) -> "_Named | None":
        try:
            known = await self._known.fresh(project, organization)
        except NotFound:
            return None
        return _Named(known, frozenset(named(known.settings)))

    async def _build(self, due: DueSchedule, what: Firing, found: "_Named | None") -> None:
        if found is None or not found.has(due):
            await self._store.drop_schedule(due)  # an earlier version has left it
            return
        if what.planned is None:
            await self._skip(due, what)
            return
        try:
            new = self._new(found.known, what, what.planned)
        except Invalid as error:
            await self._skip(due, skip_due_times(due, what.decided_at, what.next_at, error.message))
            return
        outcome = await self._node.submit(new)
        if isinstance(outcome, Submitted) and outcome.repeated:
            # It had its build before the clock was set back. After ProjectChanged it is processed
            # again, unless another node was faster.
            await self._store.settle_schedules([attrs.evolve(what, planned=None)])

    async def _skip(self, due: DueSchedule, what: Firing) -> None:
        log.warning(
            "no build of %s at %s on %s since %s: %s", due.project_name, due.schedule.cron,
            due.schedule.branch, local_time(due.next_at, ""), what.skipped,
        )  # fmt: skip
        await self._store.settle_schedules([what])

    def _new(self, known: Known, what: Firing, planned: float) -> NewWorkload:
        one = what.schedule
        at = local_time(planned, one.time_zone)
        zone = one.time_zone or "UTC"
        asked = AskBuild(branch=one.branch, message=f"{SCHEDULED}{one.cron} {zone}, {at}")
        new = new_workloads.build(known, asked, self._node.clock.now())
        new_workloads.within_limits(new, known.project.max_boxes, known.plan)
        return attrs.evolve(new, idempotency=_key(what, at), submitted_by=BY, firing=what)


@attrs.frozen
class _Named:
    """A project, and the schedules that its settings name."""

    known: Known
    schedules: frozenset[Schedule]

    def has(self, due: DueSchedule) -> bool:
        return self.known.project.id == due.project and due.schedule in self.schedules


async def _all_of(work: Iterable[Coroutine[None, None, None]]) -> None:
    """Wait for all, also if some fail; then raise the first error."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if outcome is not None:
            raise outcome


def _key(what: Firing, at: str) -> IdempotencyKey:
    """Return the idempotency key of a schedule and its planned local time."""
    said = "\0".join(attrs.astuple(what.schedule))
    digest = hashlib.sha256(said.encode()).hexdigest()[:32]
    return IdempotencyKey(BY, f"{what.project}/{digest}/{at}", "")
