"""Workloads: list them, show one, explain why one waits, stop one."""

import asyncio
import base64
import binascii
import enum
from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import attrs
from aiohttp import web
from msgspec import UNSET
from multidict import MultiMapping

from boxsched.api.auth.actor import ACTOR, CALLER, organization_of
from boxsched.api.auth.rights import Right
from boxsched.api.auth.scope import Scope
from boxsched.api.http import bodies, parameters, recent, replies
from boxsched.api.messages import answers, checks
from boxsched.api.messages.answers import WorkloadAnswer
from boxsched.api.messages.explanation import Explanation, finished, reported, unseen
from boxsched.api.messages.requests import Nothing
from boxsched.api.resources.in_scope import has, page_in_scope
from boxsched.api.resources.set_aside import note
from boxsched.api.resources.settling import pauses, settled
from boxsched.api.submitting import commands, new_workloads
from boxsched.errors import Conflict, Invalid, StoreAway
from boxsched.model import Kind, WorkloadId, parse_workload, workload_text
from boxsched.node.node import Node
from boxsched.pace import HEAVY_JOBS
from boxsched.protocol import inbox
from boxsched.states import SERVICE_RESULTS, Result, State
from boxsched.store.records import Workload, WorkloadFilter

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
MAX_NUMBER_DIGITS = 15
WAITING = (State.REGISTERED, State.QUEUED)
SET_ASIDE_AT_MOST = 10  # commands that an explanation counts
# Looks while an answer waits until the engine has processed the command, which is durable already.

_nothing = bodies.Form(Nothing, Nothing())
_E = TypeVar("_E", bound=enum.StrEnum)


class WorkloadRoutes:
    def __init__(self, node: Node, seen: recent.RecentAnswers) -> None:
        self._node = node
        self._store = node.store
        self._seen = seen

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of workloads, newest first; ``next_cursor`` requests the next page.

        A page may be short or empty although more pages follow: the rows read for one are limited.
        """
        query = request.query
        if "number" in query:
            return await self._numbered(query, request[CALLER].scope)
        scope = request[CALLER].scope
        said = parameters.yes_or_no(query, "why")
        name = _name(query.get("project"), "project")
        wanted = WorkloadFilter(
            kind=_choice(Kind, query.get("kind"), "kind"),
            state=_choice(State, query.get("state"), "state"),
            result=_choice(Result, query.get("result"), "result", SERVICE_RESULTS),
            branch=_name(query.get("branch"), "branch"),
            server=_name(query.get("server"), "server"),
            before=_before(query.get("cursor")),
            limit=_limit(query.get("limit")),
            organization=scope.organization.id,
        )
        if name is None:
            name = scope.only_project()
        if name is not None:
            project = await self._store.project_id(name, scope.organization.id)
            if project is None:
                return replies.json_bytes(_list(b"[]", None))
            wanted = attrs.evolve(wanted, project=project)

        async def read(before: WorkloadId | None) -> tuple[list[Workload], WorkloadId | None]:
            page = await self._store.workloads(attrs.evolve(wanted, before=before))
            return [one for one in page.workloads if has(scope, one)], page.next

        shown, following = await page_in_scope(
            scope, read, lambda one: one.id, wanted.before, wanted.limit
        )
        cursor = None if following is None else _cursor(following)
        if len(shown) >= HEAVY_JOBS:
            await self._node.pace.step()
        shape = await self._shape(shown if said else (), scope)
        rows = await answers.encoded(shown, shape, lambda w: len(w.jobs) + 1, self._node.pace)
        return replies.json_bytes(_list(rows, cursor))

    async def _shape(
        self, rows: Sequence[Workload], scope: Scope
    ) -> Callable[[Workload], WorkloadAnswer]:
        """Return a function that makes the answer for a row; for a waiting one it says why."""
        if not any(row.state in WAITING for row in rows):
            return answers.workload
        reasons = self._node.reasons(await self._node.books(scope.organization.shard), scope.has)

        def shape(row: Workload) -> WorkloadAnswer:
            why = reasons(row.id, row.state) if row.state in WAITING else None
            return answers.workload(row, UNSET if why is None else why)

        return shape

    async def _numbered(self, query: MultiMapping[str], scope: Scope) -> web.Response:
        """Return a list with the workload of this number in its project, or an empty list."""
        number = _project_number(query["number"])
        name = query.get("project")
        if name is None or len(query) > 2:
            raise Invalid("requires project, and allows no other filter", "number")
        id_ = await self._store.find_number(
            checks.plain(name, "project"), number, scope.organization.id
        )
        found = None if id_ is None else await self._store.workload(id_)
        rows = [] if found is None or not has(scope, found) else [answers.workload(found)]
        return replies.json_bytes(_list(replies.encode(rows), None))

    async def one(self, request: web.Request) -> web.Response:
        stored = await new_workloads.find(self._store, request.match_info["workload"])
        if len(stored.jobs) >= HEAVY_JOBS:
            await self._node.pace.step()
        return replies.json(answers.workload(stored))

    async def explanation(self, request: web.Request) -> web.Response:
        scope = request[CALLER].scope
        return replies.json(await self._explain(request.match_info["workload"], scope))

    async def _explain(self, text: str, scope: Scope) -> Explanation:
        """Explain the workload as the engine sees it, which may not know a new workload yet."""
        looks = pauses()
        while True:
            stored = await new_workloads.find(self._store, text)
            if stored.state is State.FINISHED:
                return finished(stored)
            report = await self._node.why(stored.id, scope.has, scope.organization.shard)
            if report is not None:
                aside = await self._store.set_aside(
                    SET_ASIDE_AT_MOST, stored.id, scope.organization.shard
                )
                overtaken = None
                if report.position is not None and stored.queued_at is not None:
                    overtaken = await self._store.overtaken(
                        stored.id, stored.queued_at, scope.organization.id
                    )
                now = self._node.clock.now()
                return reported(report, stored, now, note(aside), overtaken)
            pause = next(looks, None)
            if pause is None:
                if stored.state is State.REGISTERED:
                    return unseen(stored)
                raise StoreAway("the scheduler is loading: try again")
            await asyncio.sleep(pause)

    async def stop(self, request: web.Request) -> web.Response:
        """202 when the stop is durable; 409 if the workload has already finished."""
        body = await bodies.read(request)
        stored = await new_workloads.subject(self._store, request.match_info["workload"])
        if stored.kind is Kind.DEPLOY:
            request[CALLER].require(Right.OPERATE)
        key = recent.key_of(request, f"workloads/{workload_text(stored.id)}/stop", body)
        again = self._seen.again(key)
        if again is not None:
            return again
        if key is None or not recent.repeated(await self._store.idempotency(key)):
            _nothing.read(body)
            if stored.state is State.FINISHED:
                raise Conflict(f"it has finished: {stored.result}")
            await commands.store_command(
                self._node,
                inbox.Stop(stored.id, request[ACTOR]),
                stored,
                organization_of(request),
                key,
            )
            stored = await self._moved(stored)
            # With a key it is 202 from here on, because a repetition gets 202.
            if key is None and stored.result in (Result.PASSED, Result.FAILED):
                raise Conflict(f"it has finished in the meantime: {stored.result}")
        answer = replies.encode(answers.workload(stored))
        self._seen.keep(key, 202, answer)
        return replies.json_bytes(answer, 202)

    async def _moved(self, stored: Workload) -> Workload:
        """Return the workload after the stop took effect, or after a short wait."""
        return await settled(
            stored,
            lambda: new_workloads.subject(self._store, workload_text(stored.id)),
            lambda now: now.state in (State.STOPPING, State.FINISHED),
        )


def _list(rows: bytes, cursor: str | None) -> bytes:
    return b'{"workloads":' + rows + b',"next_cursor":' + replies.encode(cursor) + b"}"


def _cursor(last: WorkloadId) -> str:
    return base64.urlsafe_b64encode(f"before {workload_text(last)}".encode()).decode()


def _before(cursor: str | None) -> WorkloadId | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        text = ""
    before, _, id_ = text.partition(" ")
    last = parse_workload(id_) if before == "before" else None
    if last is None:
        raise Invalid("must be next_cursor of the previous page, unchanged", "cursor")
    return last


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= MAX_LIMIT):
        raise Invalid(f"must be a number from 1 to {MAX_LIMIT}", "limit")
    return int(text)


def _project_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_NUMBER_DIGITS):
        raise Invalid("must be a workload's number in its project", "number")
    return int(text)


def _choice(
    kind: type[_E], text: str | None, field: str, choices: Collection[_E] | None = None
) -> _E | None:
    if text is None:
        return None
    for choice in kind if choices is None else choices:
        if choice == text:
            return choice
    raise Invalid(f"must be one of {', '.join(kind if choices is None else choices)}", field)


def _name(text: str | None, field: str) -> str | None:
    return None if text is None else checks.plain(text, field)
