"""Bitbucket Data Center and Server: ``repo:refs_changed``, with a change for each ref, and pull
requests.

``diagnostics:ping`` is what its button "Test connection" sends.

The documents: https://confluence.atlassian.com/bitbucketserver/event-payload-938025882.html
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Literal

from msgspec import Struct
from msgspec.json import Decoder

from boxsched.webhooks.events import Event, Ignored, ParsedDelivery
from boxsched.webhooks.headers import Headers, one
from boxsched.webhooks.outcomes import (
    Head,
    delivery,
    each,
    pushed,
    requested,
    unchanged,
    unnamed,
    unused,
)
from boxsched.webhooks.providers.shapes import Number

EVENT, DELIVERY = "X-Event-Key", "X-Request-Id"
BUILD = ("pr:opened", "pr:reopened", "pr:from_ref_updated")
CLOSE = ("pr:merged", "pr:declined", "pr:deleted")
REQUESTS = "pr:"


class ServerLink(Struct):
    href: str | None = None


class ServerLinks(Struct):
    clone: list[ServerLink] | None = None
    self: list[ServerLink] | None = None


class ServerProject(Struct):
    key: str | None = None


class ServerRepository(Struct):
    id: int | None = None
    slug: str | None = None
    project: ServerProject | None = None
    links: ServerLinks | None = None


class ServerPerson(Struct):
    """``name``: an account's name; for a commit's author perhaps the name in git."""

    displayName: str | None = None
    name: str | None = None


class ToCommit(Struct):
    """The new head; versions before 7.14 do not send it."""

    id: str | None = None
    message: str | None = None
    author: ServerPerson | None = None


class ServerChange(Struct):
    refId: str
    toHash: str


class RefsChanged(Struct):
    changes: list[ServerChange]
    actor: ServerPerson | None = None
    repository: ServerRepository | None = None
    toCommit: ToCommit | None = None
    date: str | None = None


class ServerEnd(Struct):
    displayId: str | None = None
    latestCommit: str | None = None
    repository: ServerRepository | None = None


class Participant(Struct):
    user: ServerPerson | None = None


class ServerPullRequest(Struct):
    id: Number
    fromRef: ServerEnd
    toRef: ServerEnd
    title: str | None = None
    draft: bool | None = None
    author: Participant | None = None
    links: ServerLinks | None = None


class ServerPullRequestEvent(Struct):
    pullRequest: ServerPullRequest
    date: str | None = None


class ServerEnvelope(Struct):
    """A payload of any kind. A ping has none of these fields."""

    eventKey: str | None = None
    repository: ServerRepository | None = None


_CHANGED, _REQUEST = Decoder(RefsChanged), Decoder(ServerPullRequestEvent)
_ENVELOPE = Decoder(ServerEnvelope)


def read(headers: Headers, body: bytes) -> ParsedDelivery:
    envelope = _ENVELOPE.decode(body)
    event = one(headers, EVENT) or envelope.eventKey
    repository = envelope.repository
    happened: Sequence[Event]
    if event == "repo:refs_changed":
        payload = _CHANGED.decode(body)
        happened = each(payload.changes, partial(_changed, payload))
    elif event in BUILD or event in CLOSE:
        request = _REQUEST.decode(body)
        repository = request.pullRequest.toRef.repository
        happened = [_requested(event, request)]
    else:
        happened = [_other(event)]
    return delivery(event, one(headers, DELIVERY), list(_names(repository)), None, happened)


def _names(repository: ServerRepository | None) -> Iterator[str | None]:
    if repository is None:
        return
    if repository.links is not None:
        yield from (link.href for link in repository.links.clone or ())
    if repository.project is not None and repository.project.key and repository.slug:
        yield f"{repository.project.key}/{repository.slug}"


def _changed(payload: RefsChanged, change: ServerChange) -> Event:
    commit = payload.toCommit or ToCommit()
    if commit.id != change.toHash:  # the commit is the head of another ref of this push
        commit = ToCommit()
    author, actor = commit.author or ServerPerson(), payload.actor or ServerPerson()
    head = Head(
        commit=change.toHash,
        message=commit.message,
        authors=(author.displayName, author.name, actor.displayName),
        at=payload.date,
    )
    return pushed(change.refId, head)


def _requested(event: str, payload: ServerPullRequestEvent) -> Event:
    action: Literal["build", "close"] = "close" if event in CLOSE else "build"
    request = payload.pullRequest
    author = (request.author or Participant()).user or ServerPerson()
    head = Head(
        commit=request.fromRef.latestCommit,
        authors=(author.displayName,),
        links=[link.href for link in (request.links or ServerLinks()).self or ()],
        at=payload.date,
    )
    return requested(
        action,
        request.id,
        head,
        title=request.title,
        from_fork=_is_fork(request.fromRef.repository, request.toRef.repository),
        draft=bool(request.draft),
        target=request.toRef.displayId,
    )


def _is_fork(source: ServerRepository | None, target: ServerRepository | None) -> bool:
    return source is None or target is None or source.id is None or source.id != target.id


def _other(event: str | None) -> Ignored:
    if event is None:
        return unnamed(EVENT)
    if event == "diagnostics:ping":
        return Ignored("a ping: the webhook is set up")
    return unchanged("pull request", event) if event.startswith(REQUESTS) else unused(event)
