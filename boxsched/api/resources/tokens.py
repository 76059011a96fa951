"""Tokens: create (the text is shown once), list and revoke them."""

import asyncio
from collections.abc import Sequence

from aiohttp import web
from msgspec import Struct, structs

from boxsched.api.auth import tokens
from boxsched.api.auth.actor import CALLER, organization_of
from boxsched.api.auth.granting import check_grant, may_manage
from boxsched.api.auth.known_tokens import Holder, KnownTokens
from boxsched.api.http import bodies, replies
from boxsched.api.http.not_found import no_such
from boxsched.api.http.times import rfc3339, text_time
from boxsched.api.messages.requests import AskToken
from boxsched.api.submitting.older_nodes import refuse_beside_older
from boxsched.errors import Invalid, NotFound
from boxsched.node.node import Node
from boxsched.protocol.shards import DEFAULT, OrganizationRef
from boxsched.store.records import Token
from boxsched.store.steps.tokens import is_known_before

MAX_PATTERN_CHARACTERS = 4_096  # of all patterns in one list
SCHEMA = 9  # what programs know that have roles and scopes

_form = bodies.Form(AskToken)


class TokenAnswer(Struct, frozen=True):
    """A token that was not revoked. ``of_file``: it is a node's admin token.

    ``projects``, ``servers``: the patterns that it is limited to; null: all. ``organization``: the
    organization's that it belongs to; null: it is the instance's. ``last_used_at``: about a minute
    exact; null: never. ``max_workers``: how many workers may use it; null: none. ``bound``: only
    the first worker that connects with it.
    """

    id: str
    role: str
    name: str
    organization: str | None
    projects: tuple[str, ...] | None
    servers: tuple[str, ...] | None
    created_at: str
    expires_at: str | None
    last_used_at: str | None
    of_file: bool
    max_workers: int | None
    bound: bool


class NewTokenAnswer(TokenAnswer, frozen=True):
    """A new token. ``token``: its text, which no later answer contains."""

    token: str


class TokenList(Struct, frozen=True):
    tokens: tuple[TokenAnswer, ...]


class TokenRoutes:
    def __init__(self, node: Node, known: KnownTokens) -> None:
        self._node = node
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
        _check(asked)
        text = tokens.new_token()
        organization = await self._organization(asked, request)
        token = self._new(asked, text, request[CALLER], organization)
        await asyncio.to_thread(check_grant, request[CALLER], token)
        if not is_known_before(token):
            await refuse_beside_older(self._node, "such tokens", "role", schema=SCHEMA)
        await asyncio.shield(self._store.put_token(token))
        return replies.json(
            NewTokenAnswer(**structs.asdict(_shown(token, organization.name)), token=text), 201
        )

    async def _organization(self, asked: AskToken, request: web.Request) -> OrganizationRef:
        """Return the organization that the token is for. Raises Invalid for an unknown one."""
        mine, name = organization_of(request), asked.organization
        if name in (None, mine.name):
            return mine
        if request[CALLER].token.instance:
            if name == DEFAULT.name:
                return DEFAULT
            found = await self._node.organizations.named(name)
            if found is not None:
                return found.ref
        raise Invalid(f"there is no organization {name[:80]!a}", "organization")

    def _new(
        self, asked: AskToken, text: str, creator: Holder, organization: OrganizationRef
    ) -> Token:
        sha256 = tokens.digest(text)
        now = self._clock.now()
        life = asked.expires_in_seconds
        is_worker = asked.role is tokens.Role.WORKER
        return Token(
            id=tokens.token_id(tokens.MADE, sha256),
            digest=sha256,
            role=asked.role.value,
            name=asked.name or "",
            created_at=now,
            expires_at=None if life is None else now + life,
            organization=organization.id,
            max_workers=asked.max_workers or 1,
            bound=is_worker and asked.max_workers is None,
            projects=asked.projects,
            servers=asked.servers,
            instance=creator.token.instance
            and asked.organization is None
            and organization == DEFAULT
            and not is_worker,
        )

    async def list(self, request: web.Request) -> web.Response:
        """Return the tokens that were not revoked, oldest first, without their texts."""
        found = await self._manageable(request[CALLER])
        name = organization_of(request).name
        return replies.json(TokenList(tuple([_shown(one, name) for one in found])))

    async def revoke(self, request: web.Request) -> web.Response:
        """204: the token is invalid on this node at once, and on every node within a second."""
        id_ = request.match_info["id"]
        if tokens.looks_real(id_):  # do not repeat the secret: messages are logged
            raise NotFound("give the token's ID, such as token-1a2b3c4d5e6f, not the token itself")
        if all(one.id != id_ for one in await self._manageable(request[CALLER])):
            raise no_such("token", id_)
        if not await asyncio.shield(self._store.revoke_token(id_)):
            raise no_such("token", id_)
        self._known.forget(id_)
        return web.Response(status=204)

    async def _manageable(self, caller: Holder) -> Sequence[Token]:
        """Return the tokens of the organization that the caller sees and may revoke, oldest
        first.
        """
        mine = caller.scope.organization.id
        found = [one for one in await self._store.tokens() if one.organization == mine]
        return await asyncio.to_thread(lambda: [one for one in found if may_manage(caller, one)])


def _check(asked: AskToken) -> None:
    """Raise Invalid for fields that do not fit together."""
    is_worker = asked.role is tokens.Role.WORKER
    if asked.max_workers is not None and not is_worker:
        raise Invalid("only for tokens of role worker", "max_workers")
    for field, patterns in (("projects", asked.projects), ("servers", asked.servers)):
        if is_worker and patterns is not None:
            raise Invalid("not for tokens of role worker: it runs jobs of all projects", field)
        if patterns is not None and sum(map(len, patterns)) > MAX_PATTERN_CHARACTERS:
            raise Invalid(f"must have at most {MAX_PATTERN_CHARACTERS} characters", field)


def _shown(token: Token, organization: str) -> TokenAnswer:
    is_worker = token.role == tokens.Role.WORKER
    return TokenAnswer(
        id=token.id,
        role=token.role,
        name=token.name,
        organization=None if token.instance else organization,
        projects=token.projects,
        servers=token.servers,
        created_at=rfc3339(token.created_at),
        expires_at=text_time(token.expires_at),
        last_used_at=text_time(token.last_used_at),
        of_file=token.id.startswith(tokens.OF_FILE),
        max_workers=token.max_workers if is_worker else None,
        bound=token.bound,
    )
