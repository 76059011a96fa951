"""Secrets of a project: set, list, delete and rotate them. No answer contains a value."""

import asyncio
import re

import msgspec
from aiohttp import web

from boxsched.api.auth.actor import organization_of
from boxsched.api.http import bodies, forms, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import rfc3339
from boxsched.api.messages.requests import MAX_SECRET_BYTES, AskRotate, AskSecret
from boxsched.api.submitting.known_projects import is_project_name
from boxsched.errors import Invalid
from boxsched.model import ProjectId
from boxsched.node.node import Node
from boxsched.node.sealing import Cursor, Sealing
from boxsched.secrets.owners import sealing
from boxsched.store.steps.secrets import PLACES, SecretInfo

MASKED_FROM_CHARACTERS = 4

_secret = bodies.Form(AskSecret)
_rotate = bodies.Form(AskRotate)
_variable = re.compile(forms.VARIABLE)


class SecretAnswer(msgspec.Struct, frozen=True):
    """A secret without its value. ``version``: the number of its current value."""

    name: str
    file: bool
    version: int
    updated_at: str


class PutSecretAnswer(SecretAnswer, frozen=True):
    """``masked``: whether job logs show *** instead of the value; false: it is too short."""

    masked: bool


class SecretList(msgspec.Struct, frozen=True):
    secrets: tuple[SecretAnswer, ...]


class RotateAnswer(msgspec.Struct, frozen=True):
    """``resealed``: how many values this step sealed again.

    ``unusable``: values that cannot be opened with this node's keys. ``next``: the parameter of the
    next step, null after the last one.
    """

    resealed: int
    unusable: tuple[str, ...]
    next: str | None


class SecretRoutes:
    def __init__(self, node: Node) -> None:
        self._store = node.store
        self._vault = node.vault
        self._sealing = Sealing(node.store, node.vault)

    async def put(self, request: web.Request) -> web.Response:
        """Create a secret (201) or replace it (200)."""
        project, name = request.match_info["project"], request.match_info["secret"]
        body = await bodies.read(request)
        if not _variable.fullmatch(name):
            raise Invalid(f"a secret's name {forms.FORMS[forms.VARIABLE]}", "name")
        asked = _secret.read(body)
        if len(asked.value.encode()) > MAX_SECRET_BYTES:
            raise Invalid(f"must have at most {MAX_SECRET_BYTES} bytes", "value")
        seal = sealing(self._vault, name, asked.value)
        done = None
        if is_project_name(project):
            done = await asyncio.shield(
                self._store.put_secret(
                    project,
                    name,
                    seal,
                    as_file=asked.file,
                    organization=organization_of(request).id,
                )
            )
        if done is None:
            raise no_such("project", project)
        info, created = done
        masked = len(asked.value) >= MASKED_FROM_CHARACTERS
        answer = PutSecretAnswer(*_fields(info), masked)
        return replies.json(answer, 201 if created else 200)

    async def list(self, request: web.Request) -> web.Response:
        """Return the project's secrets, sorted by name."""
        found = await self._store.secrets(await self._project(request))
        return replies.json(SecretList(tuple([SecretAnswer(*_fields(one)) for one in found])))

    async def delete(self, request: web.Request) -> web.Response:
        """204: the secret is deleted; jobs that have begun keep it."""
        project, name = await self._project(request), request.match_info["secret"]
        named = _variable.fullmatch(name) is not None
        if not named or not await asyncio.shield(self._store.drop_secret(project, name)):
            raise no_such("secret", name)
        return web.Response(status=204)

    async def rotate(self, request: web.Request) -> web.Response:
        """Seal the next values with the first key of this node; call it until ``next`` is null."""
        asked = _rotate.read(await bodies.read(request))
        after = Cursor() if asked.after is None else _cursor(asked.after)
        step = await asyncio.shield(self._sealing.rotate(after))
        unusable = tuple([f"project {one.project}: {one.name}" for one in step.unusable])
        following = None if step.next is None else _text(step.next)
        return replies.json(RotateAnswer(step.resealed, unusable, following))

    async def _project(self, request: web.Request) -> ProjectId:
        name = request.match_info["project"]
        organization = organization_of(request).id
        found = None
        if is_project_name(name):
            found = await self._store.project_id(name, organization)
        if found is None:
            raise no_such("project", name)
        return found


def _fields(info: SecretInfo) -> tuple[str, bool, int, str]:
    return info.name, info.as_file, info.version, rfc3339(info.updated_at)


def _text(cursor: Cursor) -> str:
    return f"{cursor.place}:{cursor.project}:{cursor.name}"


def _cursor(text: str) -> Cursor:
    place, _, rest = text.partition(":")
    project, _, name = rest.partition(":")
    if not (_is_number(place) and _is_number(project) and int(place) < len(PLACES)):
        raise Invalid("must be `next` of the previous step", "after")
    return Cursor(int(place), ProjectId(int(project)), name)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
