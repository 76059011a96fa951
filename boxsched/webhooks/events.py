"""What a delivery of a code host says, as values that are the same for every host.

Every text is bounded and clean: see ``cleaning``. ``at`` is the event's own time, in seconds since
the epoch, as the host says it; None where it says none.
"""

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class Push:
    """A branch was created, or has another head. ``commit``: None only for the generic provider.
    ``forced``: according to the host, the old head is not an ancestor of the new one."""

    branch: str
    commit: str | None
    message: str | None = None
    author: str | None = None
    compare_url: str | None = None
    at: float | None = None
    forced: bool = False


@attrs.frozen(kw_only=True)
class TagPush:
    """A tag was created or moved. ``commit``: what the tag names, the commit itself where the host
    tells it; None where the host names none (the generic provider, old versions of Gogs)."""

    tag: str
    commit: str | None
    message: str | None = None
    author: str | None = None
    compare_url: str | None = None
    at: float | None = None


@attrs.frozen(kw_only=True)
class BranchDeleted:
    """A branch is gone."""

    branch: str


@attrs.frozen(kw_only=True)
class ChangeRequest:
    """A pull or merge request: build its head's ``commit``, or end what is unfinished of it.

    ``message`` is its title. ``commit`` is None where the host does not tell the head: Gogs never
    does.
    """

    number: int
    action: Literal["build", "close"]
    commit: str | None = None
    from_fork: bool = False
    draft: bool = False
    target_branch: str | None = None
    message: str | None = None
    author: str | None = None
    compare_url: str | None = None
    at: float | None = None

    @property
    def branch(self) -> str:
        """The branch that its builds go to."""
        return f"pull-request-{self.number}"


@attrs.frozen
class Ignored:
    """Nothing follows from it; ``reason`` is a clause for a person."""

    reason: str


Event = Push | TagPush | BranchDeleted | ChangeRequest | Ignored


@attrs.frozen(kw_only=True)
class Delivery:
    """One request of a host.

    ``event``: the host's name of what happened, such as "push". ``id``: the host's id of the
    delivery, the same when it is sent again. ``repositories``: each URL or full name by which the
    payload names its repository. ``events``: never empty; a push of several branches has several.
    """

    event: str
    id: str | None
    repositories: tuple[str, ...]
    default_branch: str | None
    events: tuple[Event, ...]
