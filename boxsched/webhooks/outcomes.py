"""Rules that all hosts share, which turn a push or a change request into an event."""

from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

import attrs

from boxsched.webhooks import cleaning
from boxsched.webhooks.events import (
    BranchDeleted,
    ChangeRequest,
    Event,
    Ignored,
    ParsedDelivery,
    Push,
    TagPush,
)
from boxsched.webhooks.skipping import skip_tag

MAX_EVENTS = 100  # in a delivery; further branches of a push are ignored
MAX_REPOSITORIES = 20  # names of the repository in a delivery
MAX_REPOSITORY_CHARACTERS = 2_048
BRANCHES, TAGS = "refs/heads/", "refs/tags/"

T = TypeVar("T")

_SHOWN_CHARACTERS = 80  # how much of a text from outside a reason shows


@attrs.frozen(kw_only=True)
class Head:
    """A ref after a push, with texts as the host sent them, not yet cleaned.

    ``commit`` is None if the host does not send it. ``authors`` and ``links``: the first usable one
    counts.
    """

    commit: str | None
    message: str | None = None
    authors: Sequence[str | None] = ()
    links: Sequence[str | None] = ()
    at: str | float | None = None
    forced: bool = False


def pushed(ref: str, head: Head) -> Event:
    """Return the event of a push. ``ref``: the full name. A null commit: it was deleted."""
    if ref.startswith(BRANCHES):
        return pushed_branch(ref[len(BRANCHES) :], head)
    if ref.startswith(TAGS):
        return pushed_tag(ref[len(TAGS) :], head)
    return Ignored(f"neither a branch nor a tag: {shown(ref)}")


def pushed_branch(branch: str, head: Head) -> Event:
    if cleaning.is_null(head.commit):
        return deleted_branch(branch)
    problem = cleaning.branch_problem(branch) or _unbuildable(head)
    if problem is not None:
        return Ignored(problem)
    return Push(
        branch=branch,
        commit=cleaning.commit(head.commit),
        message=cleaning.message(head.message),
        author=cleaning.author(*head.authors),
        compare_url=cleaning.link(*head.links),
        at=cleaning.seconds(head.at),
        forced=head.forced,
    )


def pushed_tag(tag: str, head: Head) -> Event:
    if cleaning.is_null(head.commit):
        return deleted_tag(tag)
    problem = cleaning.tag_problem(tag) or _unbuildable(head)
    if problem is not None:
        return Ignored(problem)
    return TagPush(
        tag=tag,
        commit=cleaning.commit(head.commit),
        message=cleaning.message(head.message),
        author=cleaning.author(*head.authors),
        compare_url=cleaning.link(*head.links),
        at=cleaning.seconds(head.at),
    )


def deleted_branch(branch: str) -> Event:
    problem = cleaning.branch_problem(branch)
    return BranchDeleted(branch=branch) if problem is None else Ignored(problem)


def deleted_tag(tag: str) -> Event:
    return Ignored(f"the tag {shown(tag)} was deleted")


def requested(
    action: Literal["build", "close"],
    number: int,
    head: Head,
    *,
    title: str | None,
    from_fork: bool,
    draft: bool = False,
    target: str | None = None,
) -> Event:
    """Return the event of a pull or merge request. ``head.message``: the message of its last
    commit, if the host sends it. A skip tag may be there or in the title. A request with a null
    commit is ignored.
    """
    if action == "build":
        problem = _unbuildable(head) or _skipped(title)
        if problem is not None:
            return Ignored(problem)
    usable = target is not None and cleaning.branch_problem(target) is None
    return ChangeRequest(
        number=number,
        action=action,
        commit=cleaning.commit(head.commit),
        from_fork=from_fork,
        draft=draft,
        target_branch=target if usable else None,
        message=cleaning.message(title),
        author=cleaning.author(*head.authors),
        compare_url=cleaning.link(*head.links),
        at=cleaning.seconds(head.at),
    )


def unused(event: str) -> Ignored:
    """Return the result for an event that has nothing to do with builds."""
    return Ignored(f"{shown(event)} events are not used")


def unnamed(header: str) -> Ignored:
    """Return the result for a request without the header that names its event."""
    return Ignored(f"the request has no {header} header, or more than one")


def unchanged(what: str, action: str | None) -> Ignored:
    """Return the result for a change of a request that is no reason to build it."""
    return Ignored(f"nothing to build for the {what}: {shown(action or 'no action')}")


def each(changes: Sequence[T], event: Callable[[T], Event]) -> Sequence[Event]:
    """Return the events of a push of several refs: at least one and at most MAX_EVENTS."""
    events = [event(change) for change in changes[:MAX_EVENTS]]
    over = len(changes) - len(events)
    if over:
        events.append(Ignored(f"{over} more changes: only the first {MAX_EVENTS} of a push count"))
    return events or [Ignored("nothing was changed")]


def delivery(
    event: str | None,
    id_: str | None,
    repositories: Sequence[str | None],
    default_branch: str | None,
    events: Sequence[Event],
) -> ParsedDelivery:
    """Return a delivery with limited texts and repository names."""
    usable = default_branch is not None and cleaning.branch_problem(default_branch) is None
    return ParsedDelivery(
        event=cleaning.line(event or "") or "unnamed",
        id=_id(id_),
        repositories=tuple(
            name
            for name in repositories[:MAX_REPOSITORIES]
            if name and len(name) <= MAX_REPOSITORY_CHARACTERS
        ),
        default_branch=default_branch if usable else None,
        events=tuple(events),
    )


def _id(text: str | None) -> str | None:
    """Return the delivery's id; drop an invalid one. Cleaning could make two ids equal."""
    return text if text and cleaning.line(text) == text else None


def shown(text: str) -> str:
    """Shorten a text from outside for a reason."""
    return cleaning.line(text, _SHOWN_CHARACTERS)


def _unbuildable(head: Head) -> str | None:
    if head.commit is not None and cleaning.commit(head.commit) is None:
        return f"{shown(head.commit)} is not a commit"
    return _skipped(head.message)


def _skipped(message: str | None) -> str | None:
    tag = skip_tag(message)
    return None if tag is None else f"a skip tag in the message: {tag}"
