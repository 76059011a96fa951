"""Organizations: create them, change the settings of their queues, list and delete them."""

import asyncio
import logging

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import ACTOR, CALLER, organization_of
from boxsched.api.http import bodies, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import text_time
from boxsched.api.messages.requests import OrganizationSettings
from boxsched.api.submitting.known_projects import is_project_name
from boxsched.api.submitting.older_nodes import refuse_beside_older
from boxsched.errors import Invalid
from boxsched.model import OrganizationId, Policy
from boxsched.node.node import Node
from boxsched.protocol.shards import Organization

log = logging.getLogger(__name__)

SCHEMA = 9  # what programs know that have organizations
NO_ID = OrganizationId(0)  # of one that may not exist yet

_form = bodies.Form(OrganizationSettings)


class OrganizationAnswer(Struct, frozen=True):
    """An organization and the settings of its queue. ``shard``: whose leader decides for it.
    ``created_at``: null: with the database.
    """

    name: str
    policy: Policy
    max_boxes: int | None
    priority_aging: float | None
    lost_retries: int
    shard: int
    created_at: str | None


class OrganizationList(Struct, frozen=True):
    organizations: tuple[OrganizationAnswer, ...]


class OrganizationRoutes:
    def __init__(self, node: Node) -> None:
        self._node = node
        self._store = node.store

    async def put(self, request: web.Request) -> web.Response:
        """201 for a new organization, 200 for new settings of one."""
        name = request.match_info["organization"]
        if not is_project_name(name):
            raise Invalid(
                "an organization's name must be 1 to 63 of the characters a-z, 0-9, '.', '_' and "
                "'-', and begin with a letter or a digit",
                "organization",
            )
        asked = _form.read(await bodies.read(request))
        await refuse_beside_older(self._node, "organizations", schema=SCHEMA)
        wanted = Organization(
            NO_ID,
            name,
            asked.policy,
            asked.max_boxes,
            asked.priority_aging,
            lost_retries=asked.lost_retries,
        )
        done, created = await asyncio.shield(self._store.put_organization(wanted))
        self._changed(done.shard)
        log.info(
            "the organization %s was %s by %s",
            name, "created" if created else "changed", request[ACTOR],
        )  # fmt: skip
        return replies.json(_shown(done), 201 if created else 200)

    async def list(self, request: web.Request) -> web.Response:
        """Return the organizations that the token may act in, by name."""
        found = await self._store.organizations()
        if not request[CALLER].token.instance:
            found = [one for one in found if one.id == organization_of(request).id]
        return replies.json(OrganizationList(tuple([_shown(one) for one in found])))

    async def one(self, request: web.Request) -> web.Response:
        name = request.match_info["organization"]
        found = await self._node.organizations.named(name)
        mine = request[CALLER].token.instance or name == organization_of(request).name
        if found is None or not mine:
            raise no_such("organization", name)
        return replies.json(_shown(found))

    async def delete(self, request: web.Request) -> web.Response:
        """204; 409 while it has unfinished workloads. Its projects and tokens are deleted too."""
        name = request.match_info["organization"]
        found = await self._node.organizations.named(name)
        if found is None or not await asyncio.shield(self._store.delete_organization(name)):
            raise no_such("organization", name)
        self._changed(found.shard)
        log.info("the organization %s was deleted by %s", name, request[ACTOR])
        return web.Response(status=204)

    def _changed(self, shard: int) -> None:
        """Let this node know at once, and the shard's leader soon."""
        self._node.organizations.forget()
        self._node.leadership.look()
        self._node.wake(shard)


def _shown(one: Organization) -> OrganizationAnswer:
    return OrganizationAnswer(
        one.name,
        one.policy,
        one.max_boxes,
        one.priority_aging,
        one.lost_retries,
        one.shard,
        text_time(one.created_at),
    )
