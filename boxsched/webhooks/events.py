"""The content of a code host's delivery, as values that are the same for every host.

Every text is limited in length and clean: see ``cleaning``. ``at`` is the event's time according to
the host, in seconds since the epoch, or None.
"""

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class Push:
    """A branch was created or has a new head. ``commit``: None only for the generic provider.
    ``forced``: according to the host, the old head is not an ancestor of the new one.
    """

    branch: str
    commit: str | None
    message: str | None = None
    author: str | None = None
    compare_url: str | None = None
    at: float | None = None
    forced: bool = False


@attrs.frozen(kw_only=True)
class TagPush:
    """A tag was created or moved. ``commit``: the tag's commit, or the tag object if the host sends
    only that; None if the host sends neither (the generic provider, old versions of Gogs).
    """

    tag: str
    commit: str | None
    message: str | None = None
    author: str | None = None
    compare_url: str | None = None
    at: float | None = None


@attrs.frozen(kw_only=True)
class BranchDeleted:
    """A branch was deleted."""

    branch: str


@attrs.frozen(kw_only=True)
class ChangeRequest:
    """A pull or merge request: build its head's ``commit``, or stop its unfinished builds.

    ``message`` is its title. ``commit`` is None if the host does not send it; Gogs never does.
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
        """The branch name of its builds."""
        return f"pull-request-{self.number}"


@attrs.frozen
class Ignored:
    """An event that changes nothing. ``reason``: why, for a person."""

    reason: str


Event = Push | TagPush | BranchDeleted | ChangeRequest | Ignored


@attrs.frozen(kw_only=True)
class ParsedDelivery:
    """One request of a code host.

    ``event``: the host's name for the event, such as "push". ``id``: the host's id of the delivery,
    the same when it is sent again. ``repositories``: each URL or full name of the repository in the
    payload. ``events``: never empty; a push of several branches has several.
    """

    event: str
    id: str | None
    repositories: tuple[str, ...]
    default_branch: str | None
    events: tuple[Event, ...]
