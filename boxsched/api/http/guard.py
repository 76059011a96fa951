"""The only middleware: authentication, permission, and the format of every refusal.

By default access is denied: a path without a route requires a token. The token is in the
Authorization header. A browser's session is in its cookie; then changes are accepted only from our
own page (S24), because other sites can make a browser send the cookie, but not the header.

Each route declares the right that it asks for (``auth.rights``). What its path names, such as a
project, must be in the scope of the caller's token (``auth.scope``). Long answers (streams,
workers' connections) end when their token becomes invalid: see ``lasting``.
"""

import asyncio
import ipaddress
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import attrs
from aiohttp import web
from aiohttp.typedefs import Middleware

from activity_monitor import SESSION_COOKIE, Pages
from activity_monitor.origin import same_origin
from boxsched.api.auth.acting import HEADER, Organizations, acting_in, has_limits
from boxsched.api.auth.actor import ACTOR, CALLER, actor_of
from boxsched.api.auth.known_tokens import Holder, KnownTokens
from boxsched.api.auth.last_use import LastUses
from boxsched.api.auth.lasting import Lasting
from boxsched.api.auth.rights import Asked, Open, Right, missing
from boxsched.api.auth.scope import Scope, within
from boxsched.api.auth.sessions import StoredSessions
from boxsched.api.http import replies
from boxsched.api.http.large import LargeBodies
from boxsched.api.http.packing import pack
from boxsched.api.http.parameters import check_parameters
from boxsched.api.http.peers import Peers
from boxsched.api.http.recent import PRINCIPAL
from boxsched.api.http.serving import recognize
from boxsched.api.http.streams import OPENED
from boxsched.errors import BoxschedError, Forbidden, Unauthorized
from boxsched.protocol.shards import DEFAULT
from boxsched.store.records import Token

TOKEN = web.RequestKey("token", Token)  # the caller's token; missing on public routes

# Headers of a proxy: with one of them, the request comes from another client.
_PASSED_ON = frozenset({"forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip"})
_FORWARDED = "x-forwarded-"
_HOST = re.compile(r"(\[(?P<v6>[^]]*)\]|(?P<name>[^:]*))(:[0-9]{1,5})?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CLIENT_CLOSED = 499  # in /metrics: the client closed the connection before the answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
CheckScope = Callable[[web.Request, Scope], Awaitable[None]]


@attrs.frozen
class Declared:
    """What the guard needs of a route's entry in the table of routes."""

    asks: Asked
    name: str  # method and path, for /metrics
    lasting: bool = False  # its answer may never end
    query: frozenset[str] | None = None  # the known parameters; None: all are allowed
    # Raises NotFound for what the path names, if it is not in the caller's scope.
    check_scope: CheckScope | None = None


@attrs.frozen
class Guard:
    tokens: KnownTokens
    sessions: StoredSessions
    lasting: Lasting
    declared: Mapping[web.AbstractRoute, Declared]
    peers: Peers
    pages: Pages
    uses: LastUses
    organizations: Organizations
    answered: Counter[tuple[str, int]] = attrs.field(factory=Counter)
    large: LargeBodies = attrs.field(factory=LargeBodies)

    def middleware(self) -> Middleware:
        declared, answered = self.declared, self.answered
        unknown = Declared(Right.READ, "other")
        other_method = Declared(Open.EVERYONE, "other")

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            request = self.peers.placed(request)
            route = declared.get(request.match_info.route)
            if route is None:  # an unknown path or method; public paths need no token for the 404
                route = other_method if self._is_public(request.path) else unknown
            status = 500  # aiohttp's answer to an unexpected exception
            try:
                response = await self._answer(request, route, handler)
                if route is unknown:
                    response = self.pages.instead(request, response.status) or response
                if request.secure and not response.prepared:
                    response.headers["Strict-Transport-Security"] = replies.HSTS
                await pack(request, response)
                status = response.status
                return response
            except web.HTTPException as error:
                status = error.status
                raise
            except (asyncio.CancelledError, ConnectionError):
                status = CLIENT_CLOSED
                raise
            finally:
                answered[route.name, status] += 1

        return guard

    def _is_public(self, path: str) -> bool:
        return any(
            its.asks is Open.EVERYONE and route.resource and _answers(route.resource, path)
            for route, its in self.declared.items()
        )

    async def _answer(
        self, request: web.Request, route: Declared, handler: Handler
    ) -> web.StreamResponse:
        """Return the handler's answer, or a refusal if the caller has no permission."""
        try:
            if route.asks is not Open.EVERYONE:
                await self.admit(request, route)
            if route.query is not None and request.query_string:
                check_parameters(request.query, route.query, request.rel_url.raw_query_string)
            # no turn: without a token, bodies are small or counted elsewhere
            if route.asks is Open.EVERYONE:
                return await handler(request)
            if not route.lasting:
                async with self.large.turn(request):
                    return await handler(request)
            with self.lasting.watched(request, request[TOKEN].digest):
                return await handler(request)
        except BoxschedError as error:
            if OPENED in request:
                stream = request[OPENED]
                stream.cut()
                return stream.response
            return replies.refusal(error)
        except web.HTTPException as error:
            if error.status < 400:
                raise
            return replies.refused(error)

    async def admit(self, request: web.Request, route: Declared) -> None:
        """Authenticate the caller and store it in the request; check its rights and its scope.

        Raises Unauthorized, Forbidden, and NotFound for what is not in the caller's scope.
        """
        right = route.asks
        if isinstance(right, Open):
            if from_this_machine(request):
                request[PRINCIPAL] = "local"
                return
            right = Right.MONITOR
        holder = await self.holder(request)
        if right not in holder.rights:
            raise missing(right, holder.token)
        if right is Right.WORK and _is_of_another_site(request):
            raise Forbidden("a page of another site cannot connect as a worker")
        recognize(request)
        self.uses.note(holder.token)
        request[PRINCIPAL], request[TOKEN] = holder.principal, holder.token
        named = request.headers.get(HEADER)
        organization = await acting_in(holder, named, self.organizations)
        if organization != DEFAULT:
            holder = attrs.evolve(holder, scope=within(holder.scope, organization))
        request[CALLER] = holder
        by_session = "Authorization" not in request.headers
        request[ACTOR] = actor_of(holder.token, by_session=by_session)
        if route.check_scope is not None and has_limits(holder, self.organizations):
            await route.check_scope(request, holder.scope)

    async def holder(self, request: web.Request) -> Holder:
        """Return the caller, from the header or the session. Raises Unauthorized, Forbidden."""
        given = request.headers.get("Authorization")
        if given is not None:
            scheme, _, token = given.partition(" ")
            holder = await self.tokens.find(token.strip()) if scheme.lower() == "bearer" else None
            if holder is None:
                raise Unauthorized("invalid or expired token")
            return holder
        session = request.cookies.get(SESSION_COOKIE)
        holder = await self.sessions.holder(session) if session else None
        if holder is None:
            raise Unauthorized("a token is required: Authorization: Bearer TOKEN")
        if request.method not in _SAFE_METHODS and not same_origin(request, if_unsaid=False):
            raise Forbidden("with a session, changes are accepted only from this service's page")
        return holder


def _is_of_another_site(request: web.Request) -> bool:
    return "Origin" in request.headers and not same_origin(request, if_unsaid=False)


def _answers(resource: web.AbstractResource, path: str) -> bool:
    """Whether it is the resource of this path."""
    pattern = resource.get_info().get("pattern")
    return resource.canonical == path if pattern is None else bool(pattern.fullmatch(path))


def from_this_machine(request: web.Request) -> bool:
    """Whether the request came over loopback, and not through a proxy on this machine."""
    for name in map(str.lower, request.headers):
        if name in _PASSED_ON or name.startswith(_FORWARDED):
            return False
    # With DNS rebinding, another site's name resolves to this machine; then the Host differs.
    host = _HOST.fullmatch(request.headers.get("Host", ""))
    if host is None:
        return False
    named = host["v6"] or host["name"] or ""
    return is_loopback(request.remote or "") and (
        named.lower() == "localhost" or is_loopback(named)
    )


def is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False
