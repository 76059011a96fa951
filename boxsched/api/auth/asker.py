"""The name under which a request is recorded: in events, reasons and the log."""

from aiohttp import web

from boxsched.api.auth.tokens import OF_FILE
from boxsched.store.records import Token

ASKER = web.RequestKey("asker", str)  # set by the guard, on every route that is not public

PAGE = "page"


def asker_of(token: Token, *, by_session: bool) -> str:
    """The token's name. A token without one (also the one in a data folder) is called by its role,
    or ``page`` where a browser's session came with it."""
    if token.name and not token.id.startswith(OF_FILE):
        return token.name
    return PAGE if by_session else token.role
