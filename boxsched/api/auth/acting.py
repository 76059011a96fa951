"""In which organization a request acts: its token's, or the one that an instance's token names."""

from typing import Protocol

from boxsched.api.auth.known_tokens import Holder
from boxsched.errors import NotFound, Unauthorized
from boxsched.model import OrganizationId
from boxsched.protocol.shards import DEFAULT, Organization, OrganizationRef

HEADER = "X-Boxsched-Organization"  # names the organization in which an instance's token acts

_SHOWN_AT_MOST = 80


class Organizations(Protocol):
    """The organizations, as the node knows them."""

    @property
    def several(self) -> bool:
        """Whether there may be others besides the default one."""

    async def find(self, id: OrganizationId) -> Organization | None: ...

    async def named(self, name: str) -> Organization | None: ...


async def acting_in(
    holder: Holder, name: str | None, organizations: Organizations
) -> OrganizationRef:
    """Return the organization in which a request acts. ``name``: the one that it names.

    Raises NotFound for any other than the token's, and for one that does not exist; Unauthorized if
    the token's own was deleted.
    """
    token = holder.token
    if token.instance:
        if name in (None, DEFAULT.name):
            return DEFAULT
        named = await organizations.named(name)
        if named is None:
            raise _unknown(name)
        return named.ref
    mine = DEFAULT
    if token.organization != DEFAULT.id:
        found = await organizations.find(token.organization)
        if found is None:
            raise Unauthorized("the organization of this token was deleted")
        mine = found.ref
    if name not in (None, mine.name):
        raise _unknown(name)
    return mine


def has_limits(holder: Holder, organizations: Organizations) -> bool:
    """Whether there may be anything that is out of the caller's scope."""
    return not holder.scope.whole or holder.scope.organization != DEFAULT or organizations.several


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no organization {name[:_SHOWN_AT_MOST]!a}")
