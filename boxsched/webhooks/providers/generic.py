"""The generic provider: our own format, for scripts and hosts that have no module here."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.json import Decoder

from boxsched.commits import is_given
from boxsched.errors import Invalid
from boxsched.model import MAX_NAME_CHARACTERS
from boxsched.webhooks import cleaning
from boxsched.webhooks.events import Delivery, Event
from boxsched.webhooks.headers import Headers
from boxsched.webhooks.outcomes import (
    Head,
    deleted_branch,
    deleted_tag,
    delivery,
    pushed_branch,
    pushed_tag,
)


class Told(Struct, forbid_unknown_fields=True):
    """A branch or a tag was pushed or deleted. ``delivery``: the same when it is sent again."""

    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    message: str | None = None
    author: str | None = None
    deleted: bool = False
    delivery: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)] | None = None


_TOLD = Decoder(Told)


def read(_headers: Headers, body: bytes) -> Delivery:
    """Raises Invalid for names and commits that could not be built: the sender can correct them."""
    told = _TOLD.decode(body)
    return delivery("delete" if told.deleted else "push", told.delivery, (), None, [_event(told)])


def _event(told: Told) -> Event:
    if (told.branch is None) == (told.tag is None):
        raise Invalid("name either a branch or a tag", "branch")
    if told.commit is not None and not is_given(told.commit):
        raise Invalid("must be a commit: 7 to 64 hexadecimal digits", "commit")
    head = Head(commit=told.commit, message=told.message, authors=(told.author,))
    if told.branch is not None:
        problem = cleaning.branch_problem(told.branch)
        if problem is not None:
            raise Invalid(problem, "branch")
        return deleted_branch(told.branch) if told.deleted else pushed_branch(told.branch, head)
    assert told.tag is not None
    problem = cleaning.tag_problem(told.tag)
    if problem is not None:
        raise Invalid(problem, "tag")
    return deleted_tag(told.tag) if told.deleted else pushed_tag(told.tag, head)
