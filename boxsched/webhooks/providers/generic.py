"""The generic provider: our own format, for scripts and for hosts without a module here."""

from typing import Annotated

from msgspec import Meta, Struct
from msgspec.json import Decoder

from boxsched.commits import is_given
from boxsched.errors import Invalid
from boxsched.model import MAX_NAME_CHARACTERS
from boxsched.webhooks import cleaning
from boxsched.webhooks.events import Event, ParsedDelivery
from boxsched.webhooks.headers import Headers
from boxsched.webhooks.outcomes import (
    Head,
    deleted_branch,
    deleted_tag,
    delivery,
    pushed_branch,
    pushed_tag,
)


class GenericBody(Struct, forbid_unknown_fields=True):
    """A branch or a tag was pushed or deleted. ``delivery``: the same when it is sent again."""

    branch: str | None = None
    tag: str | None = None
    commit: str | None = None
    message: str | None = None
    author: str | None = None
    deleted: bool = False
    delivery: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)] | None = None


_BODY = Decoder(GenericBody)


def read(_headers: Headers, body: bytes) -> ParsedDelivery:
    """Read a body. Raises Invalid for names and commits that cannot be built, so that the sender
    can correct them.
    """
    said = _BODY.decode(body)
    return delivery("delete" if said.deleted else "push", said.delivery, (), None, [_event(said)])


def _event(said: GenericBody) -> Event:
    if (said.branch is None) == (said.tag is None):
        raise Invalid("give exactly one of branch and tag", "branch")
    if said.commit is not None and not is_given(said.commit):
        raise Invalid("must be a commit: 7 to 64 hexadecimal digits", "commit")
    head = Head(commit=said.commit, message=said.message, authors=(said.author,))
    if said.branch is not None:
        problem = cleaning.branch_problem(said.branch)
        if problem is not None:
            raise Invalid(problem, "branch")
        return deleted_branch(said.branch) if said.deleted else pushed_branch(said.branch, head)
    assert said.tag is not None
    problem = cleaning.tag_problem(said.tag)
    if problem is not None:
        raise Invalid(problem, "tag")
    return deleted_tag(said.tag) if said.deleted else pushed_tag(said.tag, head)
