"""Rights: what the routes ask for, and which of them a token has.

A token's role gives it rights. Its scope can take some of them away: what concerns all projects is
not for a token that is limited to some, and what concerns all organizations is only for the
instance's tokens. ``scope`` says what the rest of its rights applies to.
"""

import enum
from collections.abc import Mapping

from boxsched.api.auth.tokens import Role
from boxsched.errors import Forbidden
from boxsched.store.records import Token


class Right(enum.StrEnum):
    """What a route asks for."""

    READ = "read"  # everything but secrets and tokens
    MONITOR = "monitor"  # read metrics and nodes, which belong to no organization
    SUBMIT = "submit"  # builds, SSH sessions and rebuilds
    STOP = "stop"  # builds and SSH sessions
    DEPLOY = "deploy"
    OPERATE = "operate"  # stop deploys, pause, bump, resolve, restore, send again
    FLEET = "fleet"  # drain and remove workers
    CONFIGURE = "configure"  # settings and secrets of projects
    ADMINISTER = "administer"  # tokens
    INSTANCE = "instance"  # remove nodes, change the key of secrets
    WORK = "work"  # act as one worker


class Open(enum.Enum):
    """What a route asks for that needs no token."""

    EVERYONE = "everyone"
    THIS_MACHINE = "this machine"  # from elsewhere, Right.MONITOR


Asked = Right | Open

_VIEWER = frozenset({Right.READ, Right.MONITOR})
_DEVELOPER = _VIEWER | {Right.SUBMIT, Right.STOP, Right.DEPLOY}
_OPERATOR = _DEVELOPER | {Right.OPERATE, Right.FLEET}
_ADMIN = _OPERATOR | {Right.CONFIGURE, Right.ADMINISTER, Right.INSTANCE}

RIGHTS: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: _VIEWER,
    Role.DEVELOPER: _DEVELOPER,
    Role.OPERATOR: _OPERATOR,
    Role.ADMIN: _ADMIN,
    Role.WORKER: frozenset({Right.WORK}),
}

OF_THE_INSTANCE = frozenset({Right.MONITOR, Right.INSTANCE})
OF_ALL_PROJECTS = OF_THE_INSTANCE | {Right.FLEET}
OF_ALL_SERVERS = OF_ALL_PROJECTS | {Right.CONFIGURE}


class MissingRight(Forbidden):
    """The token does not have the right: use one of a role that has it."""


class NotAWorker(MissingRight):
    """This route needs a worker's token: use a token of role worker."""

    code = "not_a_worker"


def rights_of(token: Token) -> frozenset[Right]:
    """Return the rights that the token has within its scope."""
    role = Role(token.role)
    rights = RIGHTS[role]
    if not token.instance:
        rights -= OF_THE_INSTANCE
    if token.projects is not None:
        rights -= OF_ALL_PROJECTS
    if token.servers is not None:
        rights -= OF_ALL_SERVERS
    elif role is Role.DEVELOPER:
        rights -= {Right.DEPLOY}
    return rights


def missing(right: Right, token: Token) -> MissingRight:
    """Return the refusal of a request that needs the right; it says which token has it."""
    if right is Right.WORK:
        return NotAWorker(
            f"this token has the role {token.role}, and this needs the right {right}: use a token "
            "of role worker here"
        )
    needs = f"this needs the right {right}"
    if right in RIGHTS[Role(token.role)]:
        return MissingRight(f"{needs}, and {_limit(right, token)}")
    roles = [role for role, rights in RIGHTS.items() if right in rights]
    return MissingRight(
        f"this token has the role {token.role}, and {needs}: use a token of role "
        f"{' or '.join(roles)} here"
    )


def _limit(right: Right, token: Token) -> str:
    """Say what takes the right from a token whose role has it."""
    if right is Right.DEPLOY:
        return (
            "a token of role developer has it only for the servers that it names, but this one "
            "names none (`servers`): use a token that names the server, or one of role operator or "
            "admin"
        )
    role = _lowest(right)
    if token.servers is not None and right in OF_ALL_SERVERS:
        return f"this token is limited to some servers: use one of role {role} without limits"
    if token.projects is not None and right in OF_ALL_PROJECTS:
        return f"this token is limited to some projects: use one of role {role} without limits"
    return f"this token belongs to an organization: use a token of role {role} of the instance"


def _lowest(right: Right) -> Role:
    """Return the role with the fewest rights of those that have this right."""
    having = (role for role, rights in RIGHTS.items() if right in rights)
    return min(having, key=lambda role: len(RIGHTS[role]))
