"""Projects: put, read, list, delete."""

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from boxsched.api.http import bodies, replies
from boxsched.api.http.absent import no
from boxsched.api.messages import answers, checks
from boxsched.api.messages.requests import ProjectSettings
from boxsched.api.submitting.known_projects import KnownProjects, is_project_name, settings_of
from boxsched.api.submitting.project_targets import targets, without_secrets
from boxsched.errors import Invalid
from boxsched.node.node import Node
from boxsched.protocol.shards import SHARD, Project
from boxsched.secrets.owners import sealing
from boxsched.secrets.vault import Vault
from boxsched.store.steps.secrets import WEBHOOK_SECRET, Seal

BYTES_A_JOB = 200

_form = bodies.Form(ProjectSettings)


class ProjectList(msgspec.Struct, frozen=True):
    projects: tuple[ProjectSettings, ...]


class Projects:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._store = node.store
        self._node = node
        self._known = known

    async def put(self, request: web.Request) -> web.Response:
        """Create (201) or replace (200) a project's settings."""
        name = request.match_info["project"]
        body = await bodies.read(request)
        if not is_project_name(name):
            raise Invalid(
                "a project's name is 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit",
                "project",
            )
        asked = _form.read(body)
        checks.settings(name, asked)
        goes_to = targets(self._node.vault, asked)
        settings = msgspec.structs.replace(without_secrets(asked), name=msgspec.UNSET)
        project, created = await asyncio.shield(
            self._store.put_project(
                name,
                replies.encode(plain(settings)).decode(),
                asked.max_boxes,
                _sealed(self._node.vault, asked),
                goes_to,
            )
        )
        self._node.wake(SHARD)
        self._known.forget(name)
        answer = replies.encode(shown(project))
        if created:
            return replies.created(answer, f"/api/v1/projects/{name}")
        return replies.json_bytes(answer)

    async def get(self, request: web.Request) -> web.Response:
        return replies.json(shown((await self._known.fresh(request.match_info["project"])).project))

    async def list(self, request: web.Request) -> web.Response:
        """All of them, by name."""
        projects = await self._store.projects()
        rows = await answers.encoded(projects, shown, _weight, self._node.pace)
        return replies.json_bytes(b'{"projects":' + rows + b"}")

    async def delete(self, request: web.Request) -> web.Response:
        """204; 409 while it has unfinished workloads."""
        name = request.match_info["project"]
        self._known.forget(name)
        if not is_project_name(name) or not await asyncio.shield(self._store.delete_project(name)):
            raise no("project", name)
        self._known.forget(name)
        self._node.wake(SHARD)
        return web.Response(status=204)


def _weight(project: Project) -> int:
    """In jobs, about: settings have 1 MiB at most."""
    return 1 + len(project.settings) // BYTES_A_JOB


def shown(project: Project) -> dict[str, Any]:
    """The settings with the name among them; what is only written is not in them."""
    return plain(msgspec.structs.replace(settings_of(project), name=project.name))


def plain(settings: ProjectSettings) -> dict[str, Any]:
    """The settings as they are sent: a rule without a progress guarantee is a pair."""
    built: dict[str, Any] = msgspec.to_builtins(settings)
    for rule in built["cancellation"]:
        del rule[2 if rule[2] is None else 3 :]
    return built


def _sealed(vault: Vault, asked: ProjectSettings) -> Mapping[str, Seal | None]:
    """The written-only values to set; those that the request does not name stay."""
    values = {WEBHOOK_SECRET: asked.webhook_secret}
    return {
        place: None if value is None else sealing(vault, place, value)
        for place, value in values.items()
        if value is not msgspec.UNSET
    }
