"""API tokens; only their digests are stored."""

from collections.abc import Collection

import attrs
import msgspec

from boxsched.store.blocks import Steps, load
from boxsched.store.mapping import mapper
from boxsched.store.records import Token
from boxsched.store.rows import json_text

_SQL = load("tokens.sql")
_WORKER, _ADMIN = "worker", "admin"
_ANOTHER = ""  # the identity of no worker

_list = msgspec.json.Decoder(tuple[str, ...])


def _patterns(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else _list.decode(text)


def _text(patterns: tuple[str, ...] | None) -> str | None:
    return None if patterns is None else json_text(patterns)


_token = mapper(
    Token,
    _SQL["token"].returns,
    _SQL["tokens"].returns,
    bound=bool,
    projects=_patterns,
    servers=_patterns,
    instance=bool,
)


def put_token(new: Token) -> Steps[None]:
    row = attrs.asdict(new) | {
        "projects": _text(new.projects),
        "servers": _text(new.servers),
        "limited_role": None,
    }
    if not is_known_before(new):  # schema_0009.sql, limited_role
        row |= {"limited_role": new.role, "role": _WORKER, "bound": True, "taken_by": _ANOTHER}
    yield _SQL["put_token"](**row)


def is_known_before(new: Token) -> bool:
    """Whether programs before the ninth schema let such a token do what it may, and no more."""
    if new.role == _WORKER:
        return True
    whole = new.instance and new.projects is None and new.servers is None
    return whole and new.role == _ADMIN


def token(digest: str) -> Steps[Token | None]:
    found = yield _SQL["token"](digest=digest)
    return _token(found[0]) if found else None


def tokens() -> Steps[list[Token]]:
    return [_token(row) for row in (yield _SQL["tokens"]())]


def revoke_token(id_: str) -> Steps[bool]:
    return bool((yield _SQL["revoke_token"](id=id_)))


def tokens_used(ids: Collection[str], seconds: float) -> Steps[None]:
    yield _SQL["token_used"].rows([(id_,) for id_ in ids], seconds=seconds)


def drop_old_tokens(seconds: float, limit: int) -> Steps[int]:
    yield _SQL["stamp_revoked_tokens"]()
    expired = yield _SQL["drop_expired_tokens"](seconds=seconds, limit=limit)
    revoked = yield _SQL["drop_revoked_tokens"](seconds=seconds, limit=limit)
    return len(expired) + len(revoked)
