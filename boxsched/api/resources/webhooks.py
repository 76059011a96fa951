"""Webhooks: the deliveries of code hosts. No token opens this; the project's secret signs them.

In this order: the whole body within limits; the signature, over the raw bytes; is it a repetition
that this node remembers; what it says; what follows from it, stored in one transaction; the answer.
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
from boxsched.api.http.absent import no
from boxsched.api.http.payloads import AT_ONCE_BYTES, HUGE_BYTES, Payloads
from boxsched.api.http.serving import recognize
from boxsched.api.submitting.deliveries import Arrived, following
from boxsched.api.submitting.known_projects import Known, KnownProjects
from boxsched.api.submitting.webhook_secrets import KnownSecrets
from boxsched.errors import BoxschedError, Conflict, NotFound, NotSigned, StoreAway
from boxsched.model import ProjectId, workload_text
from boxsched.node.node import Node
from boxsched.store.delivery_records import Delivered, DeliveryResult, RepeatedDelivery
from boxsched.webhooks.apart import read_apart
from boxsched.webhooks.events import Delivery
from boxsched.webhooks.reading import PROVIDERS, read
from boxsched.webhooks.signatures import MAX_AGE_SECONDS, verified

CHECKS_AT_MOST = 10  # of one delivery, while its project's settings keep changing
APART_BYTES = 1 << 20  # a larger body is read in a process of its own, two of them at a time
BODIES_KEPT = 50_000  # sums of bodies: about 10 MiB
AWAY = "the service cannot store it at the moment: send it again"
REFUSED = "there is no such project, it has no webhook_secret, or this is not signed with it"
REFUSED_OR_OLD = (  # of the generic provider, which signs the time, too
    "there is no such project, it has no webhook_secret, this is not signed with it, or "
    f"X-Boxsched-Timestamp is not within {MAX_AGE_SECONDS} s of the service's clock"
)
assert APART_BYTES >= HUGE_BYTES  # those that wait for one another

T = TypeVar("T")

_UNUSED_SECRETS = (secrets.token_hex(16),)  # a secret in place of one that is not there


class DeliveryAnswer(Struct, frozen=True):
    """What came of a delivery. ``workloads``: what it created, or else canceled or stopped; for a
    duplicate those of the first time. ``reason``: why nothing, or not all, was done."""

    result: DeliveryResult
    workloads: tuple[str, ...]
    reason: str | UnsetType = UNSET


class Webhooks:
    """``counted``: deliveries by provider and result, for the metrics."""

    def __init__(self, node: Node, known: KnownProjects, counted: Counter[tuple[str, str]]) -> None:
        self._node = node
        self._known = known
        self._secrets = KnownSecrets(node, known)
        self._payloads = Payloads()
        self._bodies = KnownBodies()
        self._counted = counted

    async def receive(self, request: web.Request) -> web.Response:
        """200 when all that follows is durable; 401 for whatever is not signed."""
        provider = request.match_info["provider"]
        if provider not in PROVIDERS:
            raise no("provider", provider)
        try:
            async with self._payloads.read(request) as body:
                done = await self._received(request, provider, body)
        except BoxschedError as error:
            self._counted[provider, _refusal(error)] += 1
            if error.status >= 500:  # where the database is, is nothing for strangers
                raise StoreAway(AWAY) from error
            raise
        self._counted[provider, done.result] += 1
        ids = tuple([workload_text(id_) for id_ in done.workloads])
        return replies.json(DeliveryAnswer(done.result, ids, done.reason or UNSET))

    async def _received(self, request: web.Request, provider: str, body: bytes) -> Delivered:
        project = request.match_info["project"]
        signed = _Signed(request, provider, body, self._node.clock.now())
        await self._check(project, signed)
        recognize(request)
        try:
            known = await self._known.get(project)
            body_sha256 = await aside(_sha256, body)
            return await self._carried_out(project, known, signed, body_sha256)
        except NotFound:
            raise NotSigned(_refused(provider)) from None  # it was deleted meanwhile

    async def _check(self, project: str, signed: "_Signed") -> None:
        """Raises NotSigned, in one form for all that is wrong."""
        remembered = self._secrets.remembered(project)
        if remembered and await signed.by(remembered):
            return
        fresh = await self._secrets.fresh(project)
        tried = bool(fresh) and fresh == remembered
        # Where there is no secret it takes as long.
        if not tried and await signed.by(fresh or _UNUSED_SECRETS) and fresh:
            return
        raise NotSigned(_refused(signed.provider))

    async def _carried_out(
        self, project: str, known: Known, signed: "_Signed", body_sha256: str
    ) -> Delivered:
        again = await self._repeated(known, signed, body_sha256)
        if again is not None:
            return again
        delivery = await signed.said()
        arrived = Arrived(signed.provider, signed.at, body_sha256)
        for _ in range(CHECKS_AT_MOST):
            new = following(known, arrived, delivery)
            outcome = await self._node.deliver(new)
            if isinstance(outcome, Delivered):
                if outcome.result is not DeliveryResult.IGNORED:
                    self._bodies.keep(known.project.id, body_sha256)
                return outcome
            known = await self._known.fresh(project)
            await self._check(project, signed)
        raise Conflict("the project's settings keep changing: send it again")

    async def _repeated(
        self, known: Known, signed: "_Signed", body_sha256: str
    ) -> Delivered | None:
        if not self._bodies.knows(known.project.id, body_sha256):
            return None
        version = known.project.version
        one = RepeatedDelivery(known.project.id, version, signed.provider, signed.at, body_sha256)
        return await self._node.repeat_delivery(one)


class _Signed:
    """A request with its body, to be checked with secrets and then read."""

    def __init__(self, request: web.Request, provider: str, body: bytes, at: float) -> None:
        self.provider = provider
        self.body = body
        self.at = at
        self._headers = request.headers

    async def by(self, secrets: Sequence[str]) -> bool:
        """Whether it is signed with one of them."""
        return await aside(
            lambda body: verified(self.provider, self._headers, body, secrets, self.at), self.body
        )

    async def said(self) -> Delivery:
        """What it says. Raises Malformed and Invalid; StoreAway if it cannot be read now."""
        how = read if len(self.body) < APART_BYTES else read_apart
        return await aside(lambda body: how(self.provider, self._headers, body), self.body)


class KnownBodies:
    """The sums of bodies that changed something, of the last deliveries: hints, and never truth."""

    def __init__(self, at_most: int = BODIES_KEPT) -> None:
        self._kept: OrderedDict[tuple[ProjectId, bytes], None] = OrderedDict()
        self._at_most = at_most

    def knows(self, project: ProjectId, body_sha256: str) -> bool:
        return (project, bytes.fromhex(body_sha256)) in self._kept

    def keep(self, project: ProjectId, body_sha256: str) -> None:
        self._kept[project, bytes.fromhex(body_sha256)] = None
        while len(self._kept) > self._at_most:
            self._kept.popitem(last=False)


async def aside(work: Callable[[bytes], T], body: bytes) -> T:
    """``work`` on the body; in a thread where the body is large."""
    if len(body) <= AT_ONCE_BYTES:
        return work(body)
    return await asyncio.to_thread(work, body)


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def _refused(provider: str) -> str:
    """The same for all that is wrong, so that it does not tell which projects there are."""
    return REFUSED_OR_OLD if provider == "generic" else REFUSED


def _refusal(error: BoxschedError) -> str:
    """Of a request that has no result, for the metrics."""
    if isinstance(error, NotSigned):
        return "refused"
    return "failed" if error.status >= 500 else "malformed"
