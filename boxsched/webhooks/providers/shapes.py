"""Parts that the payloads of GitHub, Gitea, Forgejo and Gogs have in common."""

from collections.abc import Sequence
from typing import Annotated

from msgspec import Meta, Struct

MAX_NUMBER = 1_000_000_000_000  # of a pull or merge request

Number = Annotated[int, Meta(ge=1, le=MAX_NUMBER)]


class Repository(Struct):
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
    """What events of any kind may have."""

    repository: Repository | None = None


def names(repository: Repository | None) -> Sequence[str | None]:
    if repository is None:
        return ()
    return (
        repository.clone_url,
        repository.ssh_url,
        repository.html_url,
        repository.full_name,
    )


def default_branch(repository: Repository | None) -> str | None:
    return None if repository is None else repository.default_branch


def same(one: Repository | None, other: Repository | None) -> bool:
    """Whether both are known, and are one repository."""
    if one is None or other is None or one.full_name is None:
        return False
    return one.full_name == other.full_name
