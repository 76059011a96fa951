"""The caller of a request, and the name under which it is recorded: in events and the log."""

from aiohttp import web

from boxsched.api.auth.known_tokens import Holder
from boxsched.api.auth.tokens import OF_FILE
from boxsched.protocol.shards import OrganizationRef
from boxsched.store.records import Token

# Set by the guard, on every route that is not public.
CALLER = web.RequestKey("caller", Holder)
ACTOR = web.RequestKey("actor", str)

PAGE = "page"


def organization_of(request: web.Request) -> OrganizationRef:
    """Return the organization in which the request acts."""
    return request[CALLER].scope.organization


def actor_of(token: Token, *, by_session: bool) -> str:
    """Return the token's name.

    For a token without a name, such as the one in a data folder, return its role, or ``page`` for a
    browser's session.
    """
    if token.name and not token.id.startswith(OF_FILE):
        return token.name
    return PAGE if by_session else token.role
