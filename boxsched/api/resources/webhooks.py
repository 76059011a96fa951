"""Receive webhooks of code hosts: signed with the project's secret, without a token.

The steps: read the whole body within limits; check the signature over the raw bytes; look for a
duplicate; parse the body; store all changes in one transaction; answer.
"""

import asyncio
import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from typing import TypeVar

from aiohttp import web
from msgspec import UNSET, Struct, UnsetType

from boxsched.api.http import replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.payloads import AT_ONCE_BYTES, HUGE_BYTES, Payloads
from boxsched.api.http.serving import recognize
from boxsched.api.submitting.deliveries import ReceivedRequest, new_delivery
from boxsched.api.submitting.known_projects import Known, KnownProjects
from boxsched.api.submitting.webhook_secrets import KnownSecrets
from boxsched.errors import BoxschedError, Conflict, NotFound, NotSigned, StoreAway
from boxsched.model import OrganizationId, ProjectId, workload_text
from boxsched.node.node import Node
from boxsched.protocol.shards import DEFAULT
from boxsched.store.delivery_records import Delivered, DeliveryResult, RepeatedDelivery
from boxsched.webhooks.apart import read_apart
from boxsched.webhooks.events import ParsedDelivery
from boxsched.webhooks.reading import PROVIDERS, read
from boxsched.webhooks.signatures import MAX_AGE_SECONDS, signed_time, verified

CHECKS_AT_MOST = 10  # for one delivery, while its project's settings keep changing
APART_BYTES = 1 << 20  # a larger body is read in a separate process, two at a time
REFUSED_EVERY_SECONDS = 0.01  # many times what the check of a usual body takes
BODIES_KEPT = 50_000  # SHA-256 sums of bodies: about 10 MiB
AWAY = "the service cannot store it at the moment: send it again"
REFUSED = "there is no such project, it has no webhook_secret, or this is not signed with it"
REFUSED_OR_OLD = (  # for the generic provider, which also signs the time
    "there is no such project, it has no webhook_secret, this is not signed with it, or "
    f"X-Boxsched-Timestamp is not within {MAX_AGE_SECONDS} s of the service's clock"
)
assert APART_BYTES >= HUGE_BYTES  # so that bodies for the process are limited by HUGE_AT_ONCE

T = TypeVar("T")

_UNUSED_SECRET = secrets.token_hex(16)  # signs nothing
_SECRETS_TRIED = 2  # always: how many a project has would show in the time of a refusal


class DeliveryAnswer(Struct, frozen=True):
    """The result of a delivery. ``workloads``: those that it created, canceled or stopped; for a
    duplicate those of the first delivery. ``reason``: why nothing, or not all of it, was done.
    """

    result: DeliveryResult
    workloads: tuple[str, ...]
    reason: str | UnsetType = UNSET


NOBODY = OrganizationId(0)  # no organization has this id


class WebhookRoutes:
    """The handler of webhooks. ``counted``: deliveries by provider and result, for the metrics."""

    def __init__(self, node: Node, known: KnownProjects, counted: Counter[tuple[str, str]]) -> None:
        self._node = node
        self._known = known
        self._secrets = KnownSecrets(node, known)
        self._payloads = Payloads()
        self._bodies = RecentBodies()
        self._counted = counted

    async def receive(self, request: web.Request) -> web.Response:
        """Answer 200 when all changes are durable, 401 if the signature is missing or wrong."""
        provider = request.match_info["provider"]
        if provider not in PROVIDERS:
            raise no_such("provider", provider)
        now = asyncio.get_running_loop().time
        began = now()
        try:
            async with self._payloads.read(request) as body:
                began = now()
                done = await self._received(request, provider, body)
        except BoxschedError as error:
            if isinstance(error, NotSigned):
                await asyncio.sleep(pause_before_refusal(now() - began))
            self._counted[provider, _refusal(error)] += 1
            if error.status >= 500:  # do not reveal details of the database to unknown senders
                raise StoreAway(AWAY) from error
            raise
        self._counted[provider, done.result] += 1
        ids = tuple([workload_text(id_) for id_ in done.workloads])
        return replies.json(DeliveryAnswer(done.result, ids, done.reason or UNSET))

    async def _received(self, request: web.Request, provider: str, body: bytes) -> Delivered:
        project = request.match_info["project"]
        organization = await self._organization(request)
        signed = _SignedRequest(request, provider, body, self._node.clock.now())
        await self._check(organization, project, signed)
        recognize(request)
        try:
            known = await self._known.get(project, organization)
            body_sha256 = await in_thread_if_large(_sha256, body)
            return await self._process(organization, project, known, signed, body_sha256)
        except NotFound:
            raise NotSigned(_refused(provider)) from None  # it was deleted in the meantime

    async def _organization(self, request: web.Request) -> OrganizationId:
        """Return the organization that the path names; if there is none, one without projects."""
        name = request.match_info.get("organization")
        if name in (None, DEFAULT.name):
            return DEFAULT.id
        found = await self._node.organizations.named(name)
        return NOBODY if found is None else found.id

    async def _check(
        self, organization: OrganizationId, project: str, signed: "_SignedRequest"
    ) -> None:
        """Raise NotSigned, with the same message for every cause."""
        remembered = self._secrets.remembered(organization, project)
        if remembered and await signed.is_signed_with(_padded(remembered)):
            return
        fresh = await self._secrets.fresh(organization, project)
        # Without a secret, or a project, the check takes the same time.
        tried = bool(remembered) and fresh == remembered
        if not tried and await signed.is_signed_with(_padded(fresh)):
            return
        # This node's clock stops while its machine sleeps, so the database's clock decides.
        if await signed.is_signed_once_with(_padded(fresh)):
            now = await self._node.store.time()
            if await signed.is_signed_with(_padded(fresh), now):
                return
        raise NotSigned(_refused(signed.provider))

    async def _process(
        self,
        organization: OrganizationId,
        project: str,
        known: Known,
        signed: "_SignedRequest",
        body_sha256: str,
    ) -> Delivered:
        again = await self._repeated(known, signed, body_sha256)
        if again is not None:
            return again
        delivery = await signed.delivery()
        received = ReceivedRequest(signed.provider, signed.at, body_sha256)
        for _ in range(CHECKS_AT_MOST):
            new = new_delivery(known, received, delivery)
            outcome = await self._node.deliver(new)
            if isinstance(outcome, Delivered):
                if outcome.result is not DeliveryResult.IGNORED:
                    self._bodies.keep(known.project.id, body_sha256)
                return outcome
            known = await self._known.fresh(project, organization)
            await self._check(organization, project, signed)
        raise Conflict("the project's settings keep changing: send it again")

    async def _repeated(
        self, known: Known, signed: "_SignedRequest", body_sha256: str
    ) -> Delivered | None:
        if not self._bodies.knows(known.project.id, body_sha256):
            return None
        version = known.project.version
        one = RepeatedDelivery(known.project.id, version, signed.provider, signed.at, body_sha256)
        return await self._node.repeat_delivery(one)


class _SignedRequest:
    """A request with its body, whose signature is checked before it is parsed."""

    def __init__(self, request: web.Request, provider: str, body: bytes, at: float) -> None:
        self.provider = provider
        self.body = body
        self.at = at
        self._headers = request.headers

    async def is_signed_with(self, secrets: Sequence[str], now: float | None = None) -> bool:
        """Whether it is signed with one of the secrets; ``now``: not by this node's clock."""
        at = self.at if now is None else now
        return await in_thread_if_large(
            lambda body: verified(self.provider, self._headers, body, secrets, at), self.body
        )

    async def is_signed_once_with(self, secrets: Sequence[str]) -> bool:
        """Whether it is a generic delivery with a valid signature of any age."""
        time = signed_time(self._headers) if self.provider == "generic" else None
        return time is not None and await self.is_signed_with(secrets, float(time))

    async def delivery(self) -> ParsedDelivery:
        """Parse the body. Raises Malformed and Invalid; StoreAway if it cannot be parsed now."""
        how = read if len(self.body) < APART_BYTES else read_apart
        return await in_thread_if_large(
            lambda body: how(self.provider, self._headers, body), self.body
        )


class RecentBodies:
    """SHA-256 sums of recent bodies that changed something; only a hint, the store decides."""

    def __init__(self, at_most: int = BODIES_KEPT) -> None:
        self._kept: OrderedDict[tuple[ProjectId, bytes], None] = OrderedDict()
        self._at_most = at_most

    def knows(self, project: ProjectId, body_sha256: str) -> bool:
        return (project, bytes.fromhex(body_sha256)) in self._kept

    def keep(self, project: ProjectId, body_sha256: str) -> None:
        self._kept[project, bytes.fromhex(body_sha256)] = None
        while len(self._kept) > self._at_most:
            self._kept.popitem(last=False)


async def in_thread_if_large(work: Callable[[bytes], T], body: bytes) -> T:
    """Return ``work(body)``; run it in a thread if the body is large."""
    if len(body) <= AT_ONCE_BYTES:
        return work(body)
    return await asyncio.to_thread(work, body)


def pause_before_refusal(taken: float) -> float:
    """In seconds: refusals are answered only in steps, so that the time which the check has taken
    does not tell whether there is a project, or how many secrets it has."""
    return REFUSED_EVERY_SECONDS - taken % REFUSED_EVERY_SECONDS


def _padded(known: tuple[str, ...]) -> tuple[str, ...]:
    return (*known, *(_UNUSED_SECRET,) * (_SECRETS_TRIED - len(known)))


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _refused(provider: str) -> str:
    """Return the same message for every cause, so that it does not reveal which projects exist."""
    return REFUSED_OR_OLD if provider == "generic" else REFUSED


def _refusal(error: BoxschedError) -> str:
    """Return the result that the metrics count for a refused request."""
    if isinstance(error, NotSigned):
        return "refused"
    return "failed" if error.status >= 500 else "malformed"
