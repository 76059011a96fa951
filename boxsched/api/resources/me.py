"""What the caller may do: ``/me``. The page offers only that."""

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import ACTOR, CALLER, organization_of
from boxsched.api.auth.rights import Right
from boxsched.api.http import replies
from boxsched.api.http.times import text_time


class MeAnswer(Struct, frozen=True):
    """The caller's token. ``name``: under which its requests are recorded. ``rights``: what it may
    do within ``projects`` and ``servers``, the patterns that it is limited to; null: all.
    ``organization``: the organization's that the token belongs to; null: it is the instance's.
    """

    id: str
    name: str
    role: str
    rights: tuple[Right, ...]
    organization: str | None
    projects: tuple[str, ...] | None
    servers: tuple[str, ...] | None
    expires_at: str | None


async def me(request: web.Request) -> web.Response:
    """Return the caller's role, rights and limits."""
    caller = request[CALLER]
    token = caller.token
    answer = MeAnswer(
        token.id,
        request[ACTOR],
        token.role,
        tuple([right for right in Right if right in caller.rights]),
        None if token.instance else organization_of(request).name,
        token.projects,
        token.servers,
        text_time(token.expires_at),
    )
    return replies.json(answer)
