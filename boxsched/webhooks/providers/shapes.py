"""Common parts of the payloads of GitHub, Gitea, Forgejo and Gogs."""

from collections.abc import Collection
from typing import Annotated, Literal

from msgspec import Meta, Struct

from boxsched.webhooks import outcomes
from boxsched.webhooks.events import Event, ParsedDelivery

MAX_NUMBER = 1_000_000_000_000  # limit of a pull or merge request's number

Number = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]


class PayloadRepository(Struct):
    """``pushed_at``: GitHub's time of a push, in seconds since the epoch."""

    full_name: str | None = None
    html_url: str | None = None
    clone_url: str | None = None
    ssh_url: str | None = None
    default_branch: str | None = None
    pushed_at: int | str | None = None


class Person(Struct):
    """``name`` of a commit's author; ``login`` and ``full_name`` of an account."""

    name: str | None = None
    username: str | None = None
    login: str | None = None
    full_name: str | None = None


class Commit(Struct):
    id: str | None = None
    message: str | None = None
    url: str | None = None
    author: Person | None = None


class Envelope(Struct):
    """Fields of every kind of event."""

    repository: PayloadRepository | None = None


def delivery(
    event: str | None, id_: str | None, repository: PayloadRepository | None, happened: Event
) -> ParsedDelivery:
    """Return a delivery with one event."""
    known = repository or PayloadRepository()
    names = (known.clone_url, known.ssh_url, known.html_url, known.full_name)
    return outcomes.delivery(event, id_, names, known.default_branch, [happened])


def build_or_close(action: str, builds: Collection[str]) -> Literal["build", "close"] | None:
    """Return whether a pull request's action means build or close; None: neither. ``builds``: the
    host's actions that add commits.
    """
    if action in builds:
        return "build"
    return "close" if action == "closed" else None


def same(one: PayloadRepository | None, other: PayloadRepository | None) -> bool:
    """Whether both are known and are the same repository."""
    if one is None or other is None or one.full_name is None:
        return False
    return one.full_name == other.full_name
