"""API tokens; only their digests are stored."""

import attrs

from boxsched.store.blocks import Steps, load
from boxsched.store.mapping import mapper
from boxsched.store.records import Token

_SQL = load("tokens.sql")

_token = mapper(Token, _SQL["token"].returns, _SQL["tokens"].returns, bound=bool)


def put_token(new: Token) -> Steps[None]:
    yield _SQL["put_token"](**attrs.asdict(new))


def token(digest: str) -> Steps[Token | None]:
    found = yield _SQL["token"](digest=digest)
    return _token(found[0]) if found else None


def tokens() -> Steps[list[Token]]:
    return [_token(row) for row in (yield _SQL["tokens"]())]


def revoke_token(id_: str) -> Steps[bool]:
    return bool((yield _SQL["revoke_token"](id=id_)))


def drop_old_tokens(seconds: float, limit: int) -> Steps[int]:
    yield _SQL["stamp_revoked_tokens"]()
    expired = yield _SQL["drop_expired_tokens"](seconds=seconds, limit=limit)
    revoked = yield _SQL["drop_revoked_tokens"](seconds=seconds, limit=limit)
    return len(expired) + len(revoked)
