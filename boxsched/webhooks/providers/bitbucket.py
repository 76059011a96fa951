"""Bitbucket Cloud: ``repo:push``, with a change for each ref, and pull requests.

Bitbucket sends ``pullrequest:updated`` for pushes, but also for new titles and reviewers; the
payload does not say which. It counts as a push.

The documents: https://support.atlassian.com/bitbucket-cloud/docs/event-payloads/
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from msgspec.json import Decoder

from boxsched.webhooks.events import Event, Ignored, ParsedDelivery
from boxsched.webhooks.headers import Headers, one
from boxsched.webhooks.outcomes import (
    Head,
    deleted_branch,
    deleted_tag,
    delivery,
    each,
    pushed_branch,
    pushed_tag,
    requested,
    shown,
    unnamed,
    unused,
)
from boxsched.webhooks.providers.shapes import Number

EVENT, DELIVERY = "X-Event-Key", "X-Request-UUID"
HOST = "https://bitbucket.org/"
BUILD = ("pullrequest:created", "pullrequest:updated")
CLOSE = ("pullrequest:fulfilled", "pullrequest:rejected", "pullrequest:superseded")
CLOSED_STATES = ("MERGED", "DECLINED", "SUPERSEDED")
TAG_TYPES = ("tag", "annotated_tag")


class BitbucketLink(Struct):
    href: str | None = None


class BitbucketLinks(Struct):
    html: BitbucketLink | None = None


class BitbucketRepository(Struct):
    full_name: str | None = None
    links: BitbucketLinks | None = None


class Account(Struct):
    display_name: str | None = None


class Author(Struct):
    """``raw``: "Name <address>", as in git. ``user``: the account with this address, if any."""

    raw: str | None = None
    user: Account | None = None
    display_name: str | None = None


class BitbucketTarget(Struct):
    hash: str | None = None
    message: str | None = None
    author: Author | None = None
    links: BitbucketLinks | None = None


class Ref(Struct):
    type: str
    name: str
    target: BitbucketTarget | None = None


class BitbucketChange(Struct):
    """``old`` is null for a new ref, ``new`` for a deleted one."""

    new: Ref | None = None
    old: Ref | None = None
    forced: bool | None = False
    links: BitbucketLinks | None = None


class Changes(Struct):
    changes: list[BitbucketChange]


class BitbucketPush(Struct):
    push: Changes
    repository: BitbucketRepository | None = None


class Branch(Struct):
    name: str | None = None


class Hash(Struct):
    hash: str | None = None


class BitbucketEnd(Struct):
    """The source or the destination. ``repository`` is null for a deleted fork."""

    branch: Branch | None = None
    commit: Hash | None = None
    repository: BitbucketRepository | None = None


class BitbucketPullRequest(Struct):
    id: Number
    source: BitbucketEnd
    destination: BitbucketEnd
    title: str | None = None
    state: str | None = None
    draft: bool | None = None
    author: Account | None = None
    updated_on: str | None = None
    links: BitbucketLinks | None = None


class BitbucketPullRequestEvent(Struct):
    pullrequest: BitbucketPullRequest
    repository: BitbucketRepository | None = None


class BitbucketEnvelope(Struct):
    repository: BitbucketRepository | None = None


_PUSH, _REQUEST = Decoder(BitbucketPush), Decoder(BitbucketPullRequestEvent)
_ENVELOPE = Decoder(BitbucketEnvelope)


def read(headers: Headers, body: bytes) -> ParsedDelivery:
    event = one(headers, EVENT)
    payload: BitbucketPush | BitbucketPullRequestEvent | BitbucketEnvelope
    happened: Sequence[Event]
    if event == "repo:push":
        payload = _PUSH.decode(body)
        happened = each(payload.push.changes, _changed)
    elif event in BUILD or event in CLOSE:
        payload = _REQUEST.decode(body)
        happened = [_requested(event, payload.pullrequest)]
    else:
        payload = _ENVELOPE.decode(body)
        happened = [unnamed(EVENT) if event is None else unused(event)]
    return delivery(event, one(headers, DELIVERY), _names(payload.repository), None, happened)


def _names(repository: BitbucketRepository | None) -> Sequence[str | None]:
    if repository is None or repository.full_name is None:
        return ()
    return (HOST + repository.full_name, repository.full_name)


def _changed(change: BitbucketChange) -> Event:
    ref = change.new or change.old
    if ref is None:
        return Ignored("the change names no ref")
    if ref.type == "branch":
        if change.new is None:
            return deleted_branch(ref.name)
        return pushed_branch(ref.name, _head(change, ref.target))
    if ref.type in TAG_TYPES:
        return (
            deleted_tag(ref.name)
            if change.new is None
            else pushed_tag(ref.name, _head(change, ref.target))
        )
    return Ignored(f"neither a branch nor a tag: {shown(ref.type)}")


def _head(change: BitbucketChange, target: BitbucketTarget | None) -> Head:
    target = target or BitbucketTarget()
    author = target.author or Author()
    user = author.user or Account()
    return Head(
        commit=target.hash or "",
        message=target.message,
        authors=(user.display_name, author.display_name, author.raw),
        links=(_html(change.links), _html(target.links)),
        forced=bool(change.forced),
    )


def _requested(event: str, request: BitbucketPullRequest) -> Event:
    closed = event in CLOSE or request.state in CLOSED_STATES
    action: Literal["build", "close"] = "close" if closed else "build"
    source, destination = request.source, request.destination
    head = Head(
        commit=(source.commit or Hash()).hash,
        authors=((request.author or Account()).display_name,),
        links=(_html(request.links),),
        at=request.updated_on,
    )
    return requested(
        action,
        request.id,
        head,
        title=request.title,
        from_fork=_is_fork(source.repository, destination.repository),
        draft=bool(request.draft),
        target=(destination.branch or Branch()).name,
    )


def _is_fork(source: BitbucketRepository | None, destination: BitbucketRepository | None) -> bool:
    if source is None or destination is None or source.full_name is None:
        return True
    return source.full_name != destination.full_name


def _html(links: BitbucketLinks | None) -> str | None:
    return ((links or BitbucketLinks()).html or BitbucketLink()).href
