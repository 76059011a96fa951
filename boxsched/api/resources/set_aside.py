"""Commands that the leader could not execute: list them, show one, remove one."""

import asyncio

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import CALLER, organization_of
from boxsched.api.http import paging, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import rfc3339
from boxsched.api.messages.answers import text_id
from boxsched.api.resources.in_scope import workloads_in
from boxsched.node.node import Node
from boxsched.store.records import SetAsideCommand

SHOWN_AT_MOST = 100  # the latest ones; a payload can have about 100 kB


class SetAsideAnswer(Struct, frozen=True):
    """A command with its ``error``. ``workload``: the workload that it concerns, or null."""

    id: str
    kind: str
    workload: str | None
    error: str
    at: str
    payload: str


class SetAsideList(Struct, frozen=True):
    commands: tuple[SetAsideAnswer, ...]


class SetAsideRoutes:
    def __init__(self, node: Node) -> None:
        self._store = node.store

    async def list(self, request: web.Request) -> web.Response:
        """Return the latest commands, latest first."""
        found = await self._store.set_aside(SHOWN_AT_MOST, shard=organization_of(request).shard)
        ids = [one.workload for one in found]
        seen = await workloads_in(self._store, request[CALLER].scope, ids)
        shown = [_answer(one) for one in found if seen(one.workload)]
        return replies.json(SetAsideList(tuple(shown)))

    async def one(self, request: web.Request) -> web.Response:
        id_ = paging.number(request.match_info["command"])
        found = (
            None
            if id_ is None
            else await self._store.set_aside_one(id_, organization_of(request).shard)
        )
        if found is None:
            raise no_such("command", request.match_info["command"])
        return replies.json(_answer(found))

    async def drop(self, request: web.Request) -> web.Response:
        """204: the command is removed from the list."""
        id_ = paging.number(request.match_info["command"])
        if id_ is None or not await asyncio.shield(
            self._store.drop_set_aside(id_, organization_of(request).shard)
        ):
            raise no_such("command", request.match_info["command"])
        return web.Response(status=204)


def note(commands: list[SetAsideCommand]) -> str:
    """Return the end of an explanation about a workload's commands that were set aside."""
    if not commands:
        return ""
    last = commands[0]
    more = f" (and {len(commands) - 1} more)" if len(commands) > 1 else ""
    return f" A command about it ({last.kind}) failed and was set aside{more}: {last.error}."


def _answer(one: SetAsideCommand) -> SetAsideAnswer:
    return SetAsideAnswer(
        str(one.id), one.kind, text_id(one.workload), one.error, rfc3339(one.at), one.payload
    )
