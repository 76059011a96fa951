"""The history of a project's settings: list versions, show one, return to one."""

from typing import Any

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import ACTOR, CALLER, organization_of
from boxsched.api.auth.scope import Scope
from boxsched.api.http import bodies, paging, replies, versions
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import text_time
from boxsched.api.messages.requests import AskRevert
from boxsched.api.resources.projects import answer, in_scope, tag_if, tag_of
from boxsched.api.submitting import project_changes
from boxsched.api.submitting.known_projects import is_project_name, parsed
from boxsched.api.submitting.project_changes import ProjectChanges
from boxsched.errors import Invalid, Outdated
from boxsched.node.node import Node
from boxsched.protocol.shards import Project
from boxsched.store.steps.project_versions import StoredVersion

DEFAULT_LIMIT, MAX_LIMIT = 50, 100
_LIST = "history"

_form = bodies.Form(AskRevert)


class VersionAnswer(Struct, frozen=True):
    """A version of a project's settings. ``changed``: the names of the changed fields. ``reverts``:
    the version that it returned to. ``at`` and ``by`` are null if an earlier release wrote it.
    """

    version: int
    at: str | None
    by: str | None
    changed: tuple[str, ...]
    reverts: int | None


class History(Struct, frozen=True):
    """A page of versions.

    ``etag``: the project's ETag just before this was read, for ``If-Match``.
    """

    versions: tuple[VersionAnswer, ...]
    next_cursor: str | None
    etag: str


class WholeVersion(VersionAnswer, frozen=True):
    settings: dict[str, Any]


class ProjectHistoryRoutes:
    def __init__(self, node: Node, changes: ProjectChanges) -> None:
        self._store = node.store
        self._changes = changes

    async def list(self, request: web.Request) -> web.Response:
        """Return a page of versions, latest first."""
        project = await self._project(request)
        limit = paging.limit(request.query.get("limit"), DEFAULT_LIMIT, MAX_LIMIT)
        before = paging.before(_LIST, request.query.get("cursor"))
        scope = request[CALLER].scope
        found = await self._store.project_versions(project.id, before, limit + 1)
        listed, more = found[:limit], found[limit:]
        cursor = paging.cursor(_LIST, listed[-1].version) if more else None
        return replies.json(
            History(
                tuple([VersionAnswer(*_fields(one, scope)) for one in listed]),
                cursor,
                tag_of(project),
            )
        )

    async def one(self, request: web.Request) -> web.Response:
        """Return one version with its settings."""
        project = await self._project(request)
        asked = request.match_info["version"]
        number = paging.number(asked)
        found = None if number is None else await self._store.project_version(project.id, number)
        if found is None:
            raise no_such("version", asked)
        scope = request[CALLER].scope
        settings = in_scope(project_changes.shown(project.name, parsed(found.settings)), scope)
        return replies.json(WholeVersion(*_fields(found, scope), settings))

    async def revert(self, request: web.Request) -> web.Response:
        """Store the settings of an old version as a new version. Secrets stay unchanged."""
        project = await self._project(request)
        asked = _form.read(await bodies.read(request))
        found = await self._store.project_version(project.id, asked.version)
        if found is None:
            raise Invalid(f"the project's history has no version {asked.version}", "version")

        def check(there: Project | None) -> None:
            versions.check(request, tag_if(there))
            if there is None or there.id != project.id:  # its history was deleted with it
                raise Outdated("the project was deleted in the meantime")

        changed, _ = await self._changes.make(
            organization_of(request),
            project.name,
            parsed(found.settings),
            request[ACTOR],
            check,
            asked.version,
        )
        return answer(changed)

    async def _project(self, request: web.Request) -> Project:
        name = request.match_info["project"]
        project = None
        if is_project_name(name):
            project = await self._store.project(name, organization_of(request).id)
        if project is None:
            raise no_such("project", name)
        return project


def _fields(
    one: StoredVersion, scope: Scope
) -> tuple[int, str | None, str | None, tuple[str, ...], int | None]:
    changed = tuple([name for name in one.changed if _is_shown(name, scope)])
    return one.version, text_time(one.at), one.by, changed, one.reverts


def _is_shown(field: str, scope: Scope) -> bool:
    """Whether a changed field is none of a server that is not in scope."""
    group, _, name = field.partition(".")
    return group != "servers" or not name or scope.has_server(name)
