"""Pauses: begin, list and end them."""

import asyncio

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import ACTOR, CALLER, organization_of
from boxsched.api.auth.scope import Scope
from boxsched.api.http import bodies, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import parsed, rfc3339, text_time
from boxsched.api.messages import checks
from boxsched.api.messages.requests import AskPause
from boxsched.api.resources.in_scope import require_pause, sees_pause
from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.api.submitting.older_nodes import refuse_beside_older
from boxsched.errors import Invalid, NotFound
from boxsched.model import ProjectId
from boxsched.nearest import unknown
from boxsched.node.node import Node
from boxsched.protocol.shards import Pause

_form = bodies.Form(AskPause)


class PauseAnswer(Struct, frozen=True):
    """A pause. ``until``: when it ends automatically, or null."""

    name: str
    project: str | None
    branch: str | None
    server: str | None
    automatic: bool
    note: str
    by: str
    since: str
    until: str | None


class PauseList(Struct, frozen=True):
    pauses: tuple[PauseAnswer, ...]


class PauseRoutes:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._node = node
        self._store = node.store
        self._known = known

    async def put(self, request: web.Request) -> web.Response:
        """Begin a pause (201), or replace the pause of this name (200)."""
        name = checks.plain(request.match_info["pause"], "name")
        asked = _form.read(await bodies.read(request))
        organization = organization_of(request)
        now = self._node.clock.now()
        until = None if asked.until is None else parsed(asked.until, "until")
        if until is not None and until <= now:
            raise Invalid("is in the past", "until")
        project = await self._project(asked, request[CALLER].scope)
        require_pause(request[CALLER].scope, asked.project, asked.server, asked.branch)
        pause = Pause(
            name, project, asked.branch, asked.server, asked.automatic, asked.note,
            request[ACTOR], now, until,
        )  # fmt: skip
        await refuse_beside_older(self._node, "pauses")
        created = await asyncio.shield(self._store.put_pause(pause, organization.id))
        self._node.wake(organization.shard)
        answer = replies.encode(shown(pause, asked.project))
        if created:
            return replies.created(answer, f"/api/v1/pauses/{name}")
        return replies.json_bytes(answer)

    async def _project(self, asked: AskPause, scope: Scope) -> ProjectId | None:
        """Return the pause's project. Raises Invalid if the pause could not cover anything, and
        NotFound for what is not in scope.
        """
        if asked.project is None:
            field = "branch" if asked.branch is not None else "server"
            if asked.branch is not None or asked.server is not None:
                raise Invalid("needs a project", field)
            return None
        if asked.branch is not None and asked.server is not None:
            raise Invalid("give at most one of branch and server", "server")
        if asked.branch is not None and asked.automatic:
            raise Invalid("only deploys can be automatic, not builds of a branch", "automatic")
        if not scope.has_project(asked.project):
            raise no_such("project", asked.project, "project")
        if asked.server is not None and not scope.has_server(asked.server):
            raise no_such("server", asked.server, "server")
        try:
            known = await self._known.fresh(asked.project, scope.organization.id)
        except NotFound:
            raise Invalid(f"there is no project {asked.project[:80]!a}", "project") from None
        servers = known.with_servers(scope.has_server).settings.servers
        if asked.server is not None and asked.server not in servers:
            said = f"the project has no server {asked.server[:80]!a}"
            raise Invalid(unknown(said, asked.server, servers), "server")
        return known.project.id

    async def list(self, request: web.Request) -> web.Response:
        """Return all pauses, sorted by name."""
        found = await self._store.pauses(organization_of(request).id)
        ids = [one.project for one in found if one.project is not None]
        names = await self._store.project_names(ids) if ids else {}
        named = [(one, names.get(one.project or ProjectId(0))) for one in found]
        scope = request[CALLER].scope
        rows = [shown(one, name) for one, name in named if sees_pause(scope, one, name)]
        return replies.json(PauseList(tuple(rows)))

    async def end(self, request: web.Request) -> web.Response:
        """204: the pause has ended."""
        name, organization = request.match_info["pause"], organization_of(request)
        if not await asyncio.shield(self._store.drop_pause(name, request[ACTOR], organization.id)):
            raise no_such("pause", name)
        self._node.wake(organization.shard)
        return web.Response(status=204)


def shown(pause: Pause, project: str | None) -> PauseAnswer:
    """Return the answer for a pause. ``project``: its project's name."""
    return PauseAnswer(
        pause.name, project, pause.branch, pause.server, pause.automatic, pause.note, pause.by,
        rfc3339(pause.since), text_time(pause.until),
    )  # fmt: skip
