"""The only middleware: authentication, permission, and the format of every refusal.

By default access is denied: a route without a policy, and a path without a route, require a token.
The token is in the Authorization header. A browser's session is in its cookie; then changes are
accepted only from our own page (S24), because other sites can make a browser send the cookie, but
not the header.

A worker's token is valid only for the worker's route, an admin's token for all other routes. Long
answers (streams, workers' connections) end when their token becomes invalid: see ``lasting``.
"""

import asyncio
import enum
import ipaddress
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import attrs
from aiohttp import web
from aiohttp.typedefs import Middleware

from activity_monitor import SESSION_COOKIE, Pages
from activity_monitor.origin import same_origin
from boxsched.api.auth.actor import ACTOR, actor_of
from boxsched.api.auth.known_tokens import Holder, KnownTokens
from boxsched.api.auth.lasting import Lasting
from boxsched.api.auth.sessions import StoredSessions
from boxsched.api.auth.tokens import Role
from boxsched.api.http import replies
from boxsched.api.http.large import LargeBodies
from boxsched.api.http.packing import pack
from boxsched.api.http.parameters import check_parameters
from boxsched.api.http.peers import Peers
from boxsched.api.http.recent import PRINCIPAL
from boxsched.api.http.serving import recognize
from boxsched.api.http.streams import OPENED
from boxsched.errors import BoxschedError, Forbidden, Unauthorized
from boxsched.store.records import Token

TOKEN = web.RequestKey("token", Token)  # the caller's token; missing on public routes

# Headers of a proxy: with one of them, the request comes from another client.
_PASSED_ON = frozenset({"forwarded", "via", "x-real-ip", "cf-connecting-ip", "true-client-ip"})
_FORWARDED = "x-forwarded-"
_HOST = re.compile(r"(\[(?P<v6>[^]]*)\]|(?P<name>[^:]*))(:[0-9]{1,5})?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
CLIENT_CLOSED = 499  # in /metrics: the client closed the connection before the answer

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NotAWorker(Forbidden):
    """This route needs a worker's token: use a token of role worker."""

    code = "not_a_worker"


class RoutePolicy(enum.Enum):
    """Who may use a route."""

    PUBLIC = "public"  # everyone
    ADMIN = "admin"  # an admin's token, or a session
    WORKER = "worker"  # a worker's token
    LOOPBACK = "loopback"  # everyone on this machine; from elsewhere like ADMIN


@attrs.frozen
class Declared:
    """What the guard needs of a route's entry in the table of routes."""

    policy: RoutePolicy
    name: str  # method and path, for /metrics
    lasting: bool = False  # its answer may never end
    query: frozenset[str] | None = None  # the known parameters; None: all are allowed


@attrs.frozen
class Guard:
    tokens: KnownTokens
    sessions: StoredSessions
    lasting: Lasting
    declared: Mapping[web.AbstractRoute, Declared]
    peers: Peers
    pages: Pages
    answered: Counter[tuple[str, int]] = attrs.field(factory=Counter)
    large: LargeBodies = attrs.field(factory=LargeBodies)

    def middleware(self) -> Middleware:
        declared, answered = self.declared, self.answered
        unknown = Declared(RoutePolicy.ADMIN, "other")
        other_method = Declared(RoutePolicy.PUBLIC, "other")

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
            its.policy is RoutePolicy.PUBLIC and route.resource and _answers(route.resource, path)
            for route, its in self.declared.items()
        )

    async def _answer(
        self, request: web.Request, route: Declared, handler: Handler
    ) -> web.StreamResponse:
        """Return the handler's answer, or a refusal if the caller has no permission."""
        try:
            if route.policy is not RoutePolicy.PUBLIC:
                await self.admit(request, route.policy)
            if route.query is not None and request.query_string:
                check_parameters(request.query, route.query, request.rel_url.raw_query_string)
            # no turn: without a token, bodies are small or counted elsewhere
            if route.policy is RoutePolicy.PUBLIC:
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

    async def admit(self, request: web.Request, policy: RoutePolicy) -> None:
        """Authenticate the caller and store it in the request. Raises Unauthorized, Forbidden."""
        if policy is RoutePolicy.LOOPBACK and from_this_machine(request):
            request[PRINCIPAL] = "local"
            return
        holder = await self.holder(request)
        is_worker = holder.token.role == Role.WORKER
        if policy is RoutePolicy.WORKER:
            if not is_worker:
                raise NotAWorker("this token has the role admin; use a token of role worker here")
            if "Origin" in request.headers and not same_origin(request, if_unsaid=False):
                raise Forbidden("a page of another site cannot connect as a worker")
        elif is_worker:
            raise Forbidden("this token has the role worker; use a token of role admin here")
        recognize(request)
        request[PRINCIPAL], request[TOKEN] = holder.principal, holder.token
        by_session = "Authorization" not in request.headers
        request[ACTOR] = actor_of(holder.token, by_session=by_session)

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
