"""Projects: create, replace, check, show, list and delete them."""

import asyncio
from typing import Any

import msgspec
from aiohttp import web

from boxsched.api.auth.actor import ACTOR, CALLER, organization_of
from boxsched.api.auth.scope import WHOLE, Scope
from boxsched.api.http import bodies, replies, versions
from boxsched.api.http.not_found import no_such
from boxsched.api.messages import answers
from boxsched.api.messages.requests import ProjectSettings
from boxsched.api.submitting import project_changes
from boxsched.api.submitting.known_projects import KnownProjects, is_project_name, settings_of
from boxsched.api.submitting.project_changes import ProjectChanges
from boxsched.node.node import Node
from boxsched.protocol.shards import Project

BYTES_A_JOB = 200

_form = bodies.Form(ProjectSettings)


class ProjectList(msgspec.Struct, frozen=True):
    projects: tuple[ProjectSettings, ...]


class ProjectCheck(msgspec.Struct, frozen=True):
    """What a PUT of these settings would change. ``changed``: the names of the fields that differ.
    ``etag``: the project's current ETag, for ``If-Match``; null if the project does not exist.
    """

    created: bool
    changed: tuple[str, ...]
    etag: str | None
    before: dict[str, Any] | None
    after: dict[str, Any]


class ProjectRoutes:
    def __init__(self, node: Node, known: KnownProjects, changes: ProjectChanges) -> None:
        self._store = node.store
        self._node = node
        self._known = known
        self._changes = changes

    async def put(self, request: web.Request) -> web.Response:
        """Create (201) or replace (200) a project's settings."""
        name = request.match_info["project"]
        asked = _form.read(await bodies.read(request))
        project, created = await self._changes.make(
            organization_of(request),
            name,
            asked,
            request[ACTOR],
            lambda found: versions.check(request, tag_if(found)),
        )
        return answer(project, created=created)

    async def check(self, request: web.Request) -> web.Response:
        """Check settings like ``put`` and return what they would change; write nothing."""
        name = request.match_info["project"]
        change = await self._changes.plan(
            organization_of(request), name, _form.read(await bodies.read(request))
        )
        before = change.before
        return replies.json(
            ProjectCheck(
                before is None,
                change.changed,
                tag_if(before),
                None if before is None else project_changes.shown(name, change.former),
                project_changes.shown(name, change.settings),
            )
        )

    async def get(self, request: web.Request) -> web.Response:
        known = await self._known.fresh(request.match_info["project"], organization_of(request).id)
        return answer(known.project, request[CALLER].scope)

    async def list(self, request: web.Request) -> web.Response:
        """Return all projects, sorted by name."""
        scope = request[CALLER].scope
        found = await self._store.projects(scope.organization.id)
        projects = [one for one in found if scope.has_project(one.name)]
        rows = await answers.encoded(
            projects, lambda one: shown(one, scope), _weight, self._node.pace
        )
        return replies.json_bytes(b'{"projects":' + rows + b"}")

    async def delete(self, request: web.Request) -> web.Response:
        """204; 409 while it has unfinished workloads."""
        name = request.match_info["project"]
        organization = organization_of(request)
        self._known.forget(name, organization.id)
        if not is_project_name(name) or not await asyncio.shield(
            self._store.delete_project(name, organization.id)
        ):
            raise no_such("project", name)
        self._known.forget(name, organization.id)
        self._node.wake(organization.shard)
        return web.Response(status=204)


def tag_of(project: Project) -> str:
    """Return the project's ETag. A new project with an old name has other ETags."""
    return f"{project.id}.{project.version}"


def tag_if(project: Project | None) -> str | None:
    """Like ``tag_of``; None without a project."""
    return None if project is None else tag_of(project)


def answer(project: Project, scope: Scope = WHOLE, *, created: bool = False) -> web.Response:
    body = replies.encode(shown(project, scope))
    if created:
        response = replies.created(body, f"/api/v1/projects/{project.name}")
    else:
        response = replies.json_bytes(body)
    return versions.set_etag(response, tag_of(project))


def _weight(project: Project) -> int:
    """Return the approximate effort of encoding a project, in jobs. Settings have at most 1 MiB."""
    return 1 + len(project.settings) // BYTES_A_JOB


def shown(project: Project, scope: Scope) -> dict[str, Any]:
    """Return the settings with the project's name, without write-only fields."""
    return in_scope(project_changes.shown(project.name, settings_of(project)), scope)


def in_scope(settings: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """Return shown settings without the servers that are not in scope."""
    if scope.servers is None:
        return settings
    servers = {n: one for n, one in settings.get("servers", {}).items() if scope.has_server(n)}
    return settings | {"servers": servers}
