"""What a new token may get: never more rights, and never a wider scope, than its creator has.

Roles need no comparison: only admins create tokens, and no role has a right that admins could not
use otherwise. A token of an organization's admin is the organization's. So only the scopes are
compared.
"""

from boxsched.api.auth.known_tokens import Holder
from boxsched.api.auth.rights import MissingRight
from boxsched.api.auth.scope import Patterns, outside, scope_of
from boxsched.api.auth.tokens import Role
from boxsched.store.records import Token

_SHOWN_AT_MOST = 5  # patterns in an error


def check_grant(creator: Holder, new: Token) -> None:
    """Raise MissingRight, with the field, if the creator may not create the token.

    Call it in a thread, and ``may_manage``, too: to compare long patterns takes up to a second.
    """
    if new.role == Role.WORKER and not creator.scope.whole:
        raise MissingRight(
            "a worker runs the jobs of all projects, and your token is limited to some projects or "
            "servers: it needs a token without these limits",
            "role",
        )
    _check_patterns("projects", creator.scope.projects, new.projects)
    _check_patterns("servers", creator.scope.servers, new.servers)


def _check_patterns(field: str, own: Patterns, asked: Patterns) -> None:
    if own is None:
        return
    limits = ", ".join(map(repr, own[:_SHOWN_AT_MOST]))
    if asked is None:
        raise MissingRight(f"your token is limited to {limits}: give patterns within them", field)
    more = outside(own, asked)
    if more is not None:
        raise MissingRight(f"{more!a} is more than your token has: {limits}", field)


def may_manage(holder: Holder, token: Token) -> bool:
    """Whether the holder sees a token and may revoke it: one that it could have created, or its
    own.
    """
    if token.id == holder.token.id:
        return True
    if token.instance and not holder.token.instance:
        return False
    if token.role == Role.WORKER and not holder.scope.whole:
        return False
    return holder.scope.covers(scope_of(token))
