"""Notifications: list them, show one, send one again."""

import asyncio

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import CALLER, organization_of
from boxsched.api.http import bodies, paging, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import rfc3339, text_time
from boxsched.api.messages.requests import Nothing
from boxsched.api.resources.in_scope import page_in_scope, workloads_in
from boxsched.errors import Invalid
from boxsched.model import workload_text
from boxsched.node.node import Node
from boxsched.store.steps.notifications import STATES, STATUSES, WAITING, StoredNotification

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
_LIST = "notifications"

_nothing = bodies.Form(Nothing, Nothing())


class NotificationAnswer(Struct, frozen=True):
    """A notification. ``kind``: status or hook.

    ``url``: the hook's, or the base of the code host's API; null if it is no longer in the
    settings. ``status``: of the last answer. ``error``: of the last try. ``next_try_at``: null if
    there is no further try. ``number``: the workload's, in its project. ``signed``: whether the
    hook has a secret that signs its requests; null for a status, and for a target that is no longer
    in the settings.
    """

    id: str
    workload: str
    number: int
    project: str
    kind: str
    provider: str | None
    url: str | None
    host: str
    event: str
    at: str
    state: str
    attempts: int
    next_try_at: str | None
    status: int | None
    error: str | None
    done_at: str | None
    signed: bool | None


class NotificationList(Struct, frozen=True):
    notifications: tuple[NotificationAnswer, ...]
    next_cursor: str | None


class NotificationRoutes:
    def __init__(self, node: Node) -> None:
        self._store = node.store
        self._clock = node.clock

    async def list(self, request: web.Request) -> web.Response:
        """Newest first."""
        state = request.query.get("state")
        if state is not None and state not in STATES:
            raise Invalid(f"must be one of {', '.join(STATES)}", "state")
        limit = paging.limit(request.query.get("limit"), DEFAULT_LIMIT, MAX_LIMIT)
        before = paging.before(_LIST, request.query.get("cursor"))
        scope = request[CALLER].scope

        async def read(after: int | None) -> tuple[list[StoredNotification], int | None]:
            found = await self._store.notifications(
                state,
                paging.ABOVE_ALL if after is None else after,
                limit + 1,
                scope.organization.id,
            )
            following = found[limit - 1].id if len(found) > limit else None
            seen = await workloads_in(self._store, scope, [one.workload for one in found])
            return [one for one in found[:limit] if seen(one.workload)], following

        shown, following = await page_in_scope(scope, read, lambda one: one.id, before, limit)
        cursor = None if following is None else paging.cursor(_LIST, following)
        return replies.json(NotificationList(tuple([_answer(one) for one in shown]), cursor))

    async def one(self, request: web.Request) -> web.Response:
        return replies.json(_answer(await self._find(request)))

    async def resend(self, request: web.Request) -> web.Response:
        """202: it will be sent now, and failed tries are repeated for a day."""
        id_ = _id(request)
        _nothing.read(await bodies.read(request))
        now = self._clock.now()
        if id_ is None or not await asyncio.shield(self._store.resend_notification(id_, now)):
            raise no_such("notification", request.match_info["notification"])
        return replies.json(_answer(await self._find(request)), 202)

    async def _find(self, request: web.Request) -> StoredNotification:
        id_ = _id(request)
        found = (
            []
            if id_ is None
            else await self._store.notifications(None, id_ + 1, 1, organization_of(request).id)
        )
        if not found or found[0].id != id_:
            raise no_such("notification", request.match_info["notification"])
        return found[0]


def _answer(one: StoredNotification) -> NotificationAnswer:
    return NotificationAnswer(
        id=str(one.id),
        workload=workload_text(one.workload),
        number=one.number,
        project=one.project,
        kind="status" if one.target == STATUSES else "hook",
        provider=one.provider,
        url=one.url,
        host=one.host,
        event=one.event,
        at=rfc3339(one.at),
        state=one.state,
        attempts=one.attempts,
        next_try_at=rfc3339(one.due_at) if one.state == WAITING else None,
        status=one.status,
        error=one.error,
        done_at=text_time(one.done_at),
        signed=None if one.target == STATUSES or one.url is None else one.signed,
    )


def _id(request: web.Request) -> int | None:
    """Return the id from the path, None if it is invalid."""
    return paging.number(request.match_info["notification"])
