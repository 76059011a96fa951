"""Schedules: a build of a branch, each time that a cron expression comes.

The next time of every schedule is in the store, so that nothing has to be kept for a takeover, and
a node has one timer: for the earliest of all. The node that leads submits the build under an
idempotency key of the schedule and its planned time. The transaction that stores the build moves
the schedule on; it is refused where the schedule has moved on already. So each time has at
most one build, even if a node dies or a former leader comes back.

Times are the database's. A clock that was set back is noticed by schedules whose next time was
chosen in the future. They are looked up anew, and keys tell which times had a build.
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
from boxsched.automation.firings import firing, passed_over, turned_back
from boxsched.cron import local_time
from boxsched.errors import BoxschedError, Invalid, NotFound
from boxsched.node.node import Node
from boxsched.protocol.schedules import DueSchedule, Firing, Schedule
from boxsched.protocol.shards import SHARD
from boxsched.store.records import IdempotencyKey, NewWorkload, Submitted

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # longest pause between two looks: another node may have changed settings
LEAST_SECONDS = 0.05  # between two looks
AT_ONCE = 100  # schedules looked at in one go
SUBMITTED_AT_ONCE = 20
CLOCK_SLACK_SECONDS = 60.0  # a clock set back by less hides no time of a schedule
BY = "schedule"


class Schedules:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._store = node.store
        self._known = known

    async def run(self) -> None:
        """Until it is cancelled. An outage of the database costs one round."""
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
        """Submit what is due; returns after how many seconds to look again."""
        began = self._node.clock.monotonic()
        now = await self._store.time()
        # 1. Settings that an earlier program has written.
        await self._read_settings(now)
        # 2. Schedules whose next time was chosen before the clock was set back.
        await self._turn_back(now)
        # 3. Builds.
        due = await self._store.due_schedules(now, AT_ONCE)
        if due:
            await self._fire(due, now)
        # 4. When the next one is due.
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
                log.warning("the schedules of %s are not known: %s", project.name, error.message)
                schedules = ()
            await self._store.schedule_anew(project.id, project.version, schedules, now)

    async def _turn_back(self, now: float) -> None:
        ahead = await self._store.ahead_schedules(now + CLOCK_SLACK_SECONDS, AT_ONCE)
        if ahead:
            log.warning("the clock was set back: schedules go on from now")
            turned = await asyncio.to_thread(lambda: [turned_back(one, now) for one in ahead])
            await self._store.settle_schedules(turned)

    async def _fire(self, due: list[DueSchedule], now: float) -> None:
        """Each in its turn, some at a time; an outage leaves the others for the next look."""
        firings = await asyncio.to_thread(lambda: [firing(one, now) for one in due])
        known = {name: await self._look_up(name) for name in {one.project_name for one in due}}
        pairs = list(zip(due, firings, strict=True))
        for start in range(0, len(pairs), SUBMITTED_AT_ONCE):
            some = pairs[start : start + SUBMITTED_AT_ONCE]
            await _all_of(self._build(one, what, known[one.project_name]) for one, what in some)

    async def _look_up(self, project: str) -> "_Named | None":
        try:
            known = await self._known.fresh(project)
        except NotFound:
            return None
        return _Named(known, frozenset(named(known.settings)))

    async def _build(self, due: DueSchedule, what: Firing, found: "_Named | None") -> None:
        if found is None or not found.has(due):
            await self._store.drop_schedule(due)  # an earlier program has left it
            return
        if what.planned is None:
            await self._skip(due, what)
            return
        try:
            new = self._new(found.known, what, what.planned)
        except Invalid as error:
            await self._skip(due, passed_over(due, what.decided_at, what.next_at, error.message))
            return
        outcome = await self._node.submit(new)
        if isinstance(outcome, Submitted) and outcome.repeated:
            # It had its build before the clock was set back. (ProjectChanged: it is looked at
            # again, unless another node was quicker.)
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
        asked = AskBuild(branch=one.branch, message=f"schedule: {one.cron} ({at}, {zone})")
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
    """To their ends, also where some fail; raises the first error of them."""
    for outcome in await asyncio.gather(*work, return_exceptions=True):
        if outcome is not None:
            raise outcome


def _key(what: Firing, at: str) -> IdempotencyKey:
    """Of a schedule and its planned local time."""
    said = "\0".join(attrs.astuple(what.schedule))
    digest = hashlib.sha256(said.encode()).hexdigest()[:32]
    return IdempotencyKey(BY, f"{what.project}/{digest}/{at}", "")
