"""The one middleware: who asks, whether he may, and every refusal in the contract's form.

Default deny: a route that declares no policy, and a path that has no route, ask for a token. It
comes in the Authorization header; a browser's session comes in its cookie, and then a change counts
only from our own page (S24): other sites can make a browser send the cookie, never the header.
"""

import enum
import ipaddress
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import attrs
from aiohttp import web
from aiohttp.typedefs import Middleware

from activity_monitor import SESSION_COOKIE
from boxsched.api import replies
from boxsched.api.recent import PRINCIPAL
from boxsched.api.sessions import StoredSessions
from boxsched.api.tokens import Tokens
from boxsched.errors import BoxschedError, Forbidden, Unauthorized

# Headers of a proxy: the request is somebody else's.
_PASSED_ON = frozenset({"forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"})
_HOST = re.compile(r"(\[(?P<v6>[^]]*)\]|(?P<name>[^:]*))(:[0-9]{1,5})?")
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CODES: Mapping[int, str] = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
_MESSAGES: Mapping[int, str] = {
    404: "there is nothing under this path",
    405: "this path does not take this method",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Policy(enum.Enum):
    """Who may use a route."""

    PUBLIC = "public"  # anybody
    TOKEN = "token"  # noqa: S105  whoever holds a token or a session
    LOOPBACK = "loopback"  # anybody on this machine; else as TOKEN


@attrs.frozen
class Declared:
    """What the table of routes says of one."""

    policy: Policy
    name: str  # method and path, for /metrics


@attrs.frozen
class Guard:
    tokens: Tokens
    sessions: StoredSessions
    declared: Mapping[web.AbstractRoute, Declared]
    answered: Counter[tuple[str, int]] = attrs.field(factory=Counter)

    def middleware(self) -> Middleware:
        declared, answered = self.declared, self.answered
        unknown = Declared(Policy.TOKEN, "other")

        @web.middleware
        async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
            route = declared.get(request.match_info.route, unknown)
            try:
                if route.policy is not Policy.PUBLIC:
                    request[PRINCIPAL] = await self.principal(request, route.policy)
                response = await handler(request)
            except BoxschedError as error:
                response = replies.refusal(error)
            except web.HTTPException as error:
                if error.status < 400:
                    raise
                response = refused(error)
            answered[route.name, response.status] += 1
            return response

        return guard

    async def principal(self, request: web.Request, policy: Policy) -> str:
        """Who asks; raises Unauthorized or Forbidden."""
        if policy is Policy.LOOPBACK and from_this_machine(request):
            return "local"
        given = request.headers.get("Authorization")
        if given is not None:
            scheme, _, token = given.partition(" ")
            principal = self.tokens.principal(token.strip()) if scheme.lower() == "bearer" else None
            if principal is None:
                raise Unauthorized("this token does not hold")
            return principal
        session = request.cookies.get(SESSION_COOKIE)
        principal = await self.sessions.principal(session) if session else None
        if principal is None:
            raise Unauthorized("a token is asked for: Authorization: Bearer TOKEN")
        if request.method not in _SAFE_METHODS and not same_origin(request):
            raise Forbidden("with a session, changes are taken from this service's own page only")
        return principal


def refused(error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals, in the contract's form."""
    response = replies.error(
        error.status,
        _CODES.get(error.status, "malformed" if error.status < 500 else "error"),
        _MESSAGES.get(error.status, error.reason),
    )
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def same_origin(request: web.Request) -> bool:
    """Whether a browser says that the request comes from our own page; silence is a no."""
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("Origin")
    return origin is not None and origin.partition("://")[2] == request.host


def from_this_machine(request: web.Request) -> bool:
    """Over loopback, and not passed on by a proxy on this machine for somebody else."""
    if not _PASSED_ON.isdisjoint(name.lower() for name in request.headers):
        return False
    # Another site's name that leads here (DNS rebinding) comes as another Host.
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
