"""Schedules: their next times, their last build, and what they skipped."""

import base64
import binascii

import msgspec
from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import CALLER, organization_of
from boxsched.api.http import replies
from boxsched.api.http.times import rfc3339
from boxsched.api.messages import answers
from boxsched.api.resources.in_scope import page_in_scope
from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.cron import explanation, times_after
from boxsched.errors import Invalid
from boxsched.model import workload_text
from boxsched.node.node import Node
from boxsched.states import Result, State
from boxsched.store.steps.schedules import FIRST_PLACE, ListedSchedule, Place

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
NEXT_TIMES = 3
JOBS_AS_COSTLY = 50  # encoding this many jobs takes about as long as encoding one schedule

_place = msgspec.json.Decoder(tuple[int, str, str, str])


class Fired(Struct, frozen=True):
    """The last time with a build.

    The other fields describe the build; null after it was deleted.
    """

    at: str
    workload: str | None
    number: int | None
    state: State | None
    result: Result | None


class Skipped(Struct, frozen=True):
    """The first of the most recently skipped times, and why they were skipped."""

    at: str
    reason: str


class ScheduleAnswer(Struct, frozen=True):
    """A schedule. ``text``: the expression in words. ``next``: the next times in its time zone."""

    project: str
    cron: str
    time_zone: str
    branch: str
    text: str
    next: tuple[str, ...]
    last: Fired | None
    skipped: Skipped | None


class ProjectSchedules(Struct, frozen=True):
    schedules: tuple[ScheduleAnswer, ...]


class ScheduleList(Struct, frozen=True):
    schedules: tuple[ScheduleAnswer, ...]
    next_cursor: str | None


class ScheduleRoutes:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._store = node.store
        self._known = known
        self._pace = node.pace

    async def of_project(self, request: web.Request) -> web.Response:
        """Return all schedules of the project."""
        project = (
            await self._known.fresh(request.match_info["project"], organization_of(request).id)
        ).project
        body = await self._encoded(await self._store.schedules_of(project.id))
        return replies.json_bytes(b'{"schedules":' + body + b"}")

    async def all(self, request: web.Request) -> web.Response:
        """Return a page of the schedules of all projects."""
        limit = _limit(request.query.get("limit"))
        scope = request[CALLER].scope

        async def read(after: Place | None) -> tuple[list[ListedSchedule], Place | None]:
            found = await self._store.schedules(
                after or FIRST_PLACE, limit + 1, scope.organization.id
            )
            following = found[limit - 1].place if len(found) > limit else None
            return [one for one in found[:limit] if scope.has_project(one.project_name)], following

        first = _after(request.query.get("cursor"))
        shown, following = await page_in_scope(scope, read, lambda one: one.place, first, limit)
        body = await self._encoded(shown)
        cursor = replies.encode(None if following is None else _cursor(following))
        return replies.json_bytes(b'{"schedules":' + body + b',"next_cursor":' + cursor + b"}")

    async def _encoded(self, found: list[ListedSchedule]) -> bytes:
        return await answers.encoded(found, _answer, lambda _: JOBS_AS_COSTLY, self._pace)


def _answer(one: ListedSchedule) -> ScheduleAnswer:
    return ScheduleAnswer(
        one.project_name,
        one.cron,
        one.time_zone or "UTC",
        one.branch,
        explanation(one.cron),
        _next(one),
        None if one.fired_at is None else _fired(one, one.fired_at),
        _skipped(one),
    )


def _next(one: ListedSchedule) -> tuple[str, ...]:
    try:
        behind = times_after(one.cron, one.time_zone, one.next_at)
        times = [one.next_at, *(at for at, _ in zip(behind, range(NEXT_TIMES - 1), strict=False))]
    except Invalid:
        times = [one.next_at]
    return tuple([rfc3339(at) for at in times])


def _fired(one: ListedSchedule, at: float) -> Fired:
    build = one.build
    if build is None:
        return Fired(rfc3339(at), None, None, None, None)
    return Fired(rfc3339(at), workload_text(build.id), build.number, build.state, build.result)


def _skipped(one: ListedSchedule) -> Skipped | None:
    if one.skipped_at is None:
        return None
    return Skipped(rfc3339(one.skipped_at), one.skipped or "")


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MAX_LIMIT):
        raise Invalid(f"must be a number from 1 to {MAX_LIMIT}", "limit")
    return int(text)


def _cursor(place: Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()


def _after(cursor: str | None) -> Place:
    if cursor is None:
        return FIRST_PLACE
    try:
        place = _place.decode(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        place = (-1, "", "", "")
    if not 0 <= place[0] < 1 << 63 or any("\0" in text for text in place[1:]):
        raise Invalid(
            "must be next_cursor of the previous page, unchanged",
            "cursor",
        )
    return place
