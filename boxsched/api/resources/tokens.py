"""Tokens: create (the text is shown once), list and revoke them."""

import asyncio

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth import tokens
from boxsched.api.auth.known_tokens import KnownTokens
from boxsched.api.http import bodies, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import rfc3339, text_time
from boxsched.api.messages.requests import AskToken
from boxsched.errors import Invalid, NotFound
from boxsched.node.node import Node
from boxsched.store.records import Token

_form = bodies.Form(AskToken)


class NewTokenAnswer(Struct, frozen=True):
    """A new token. ``token``: its text, which no later answer contains."""

    id: str
    token: str
    role: str
    name: str
    created_at: str
    expires_at: str | None
    max_workers: int | None
    bound: bool


class TokenAnswer(Struct, frozen=True):
    """A token that was not revoked. ``of_file``: it is a node's admin token.

    ``max_workers``: how many workers may use it; null: none. ``bound``: only the first worker
    that connects with it.
    """

    id: str
    role: str
    name: str
    created_at: str
    expires_at: str | None
    of_file: bool
    max_workers: int | None
    bound: bool


class TokenList(Struct, frozen=True):
    tokens: tuple[TokenAnswer, ...]


class TokenRoutes:
    def __init__(self, node: Node, known: KnownTokens) -> None:
        self._store = node.store
        self._clock = node.clock
        self._known = known

    async def make(self, request: web.Request) -> web.Response:
        """Create a token (201). A repeated call creates another one, because no text is kept."""
        asked = _form.read(await bodies.read(request))
        if "Idempotency-Key" in request.headers:
            raise Invalid(
                "Idempotency-Key is not supported here: a token's text is returned only once",
                "Idempotency-Key",
            )
        if asked.max_workers is not None and asked.role is not tokens.Role.WORKER:
            raise Invalid("only for tokens of role worker", "max_workers")
        text = tokens.new_token()
        sha256 = tokens.digest(text)
        now = self._clock.now()
        life = asked.expires_in_seconds
        token = Token(
            id=tokens.token_id(tokens.MADE, sha256),
            digest=sha256,
            role=asked.role.value,
            name=asked.name or "",
            created_at=now,
            expires_at=None if life is None else now + life,
            max_workers=asked.max_workers or 1,
            bound=asked.role is tokens.Role.WORKER and asked.max_workers is None,
        )
        await asyncio.shield(self._store.put_token(token))
        answer = NewTokenAnswer(
            token.id,
            text,
            token.role,
            token.name,
            rfc3339(token.created_at),
            text_time(token.expires_at),
            _max_workers(token),
            token.bound,
        )
        return replies.json(answer, 201)

    async def list(self, request: web.Request) -> web.Response:
        """Return all tokens that were not revoked, oldest first, without their texts."""
        found = await self._store.tokens()
        return replies.json(TokenList(tuple([_shown(one) for one in found])))

    async def revoke(self, request: web.Request) -> web.Response:
        """204: the token is invalid on this node at once, and on every node within a second."""
        id_ = request.match_info["id"]
        if tokens.looks_real(id_):  # do not repeat the secret: messages are logged
            raise NotFound("give the token's ID, such as token-1a2b3c4d5e6f, not the token itself")
        if not id_.isprintable() or not await asyncio.shield(self._store.revoke_token(id_)):
            raise no_such("token", id_)
        self._known.forget(id_)
        return web.Response(status=204)


def _shown(token: Token) -> TokenAnswer:
    return TokenAnswer(
        token.id,
        token.role,
        token.name,
        rfc3339(token.created_at),
        text_time(token.expires_at),
        token.id.startswith(tokens.OF_FILE),
        _max_workers(token),
        token.bound,
    )


def _max_workers(token: Token) -> int | None:
    return token.max_workers if token.role == tokens.Role.WORKER else None
