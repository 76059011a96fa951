"""GitHub: ``push`` and ``pull_request``.

For a created or deleted branch or tag GitHub also sends a push, so ``create`` and ``delete`` are
ignored. Draft pull requests are built like others, because their authors want the result before a
review. So nothing is built when a draft becomes ready for review.

The documents: https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

from msgspec import Struct
from msgspec.json import Decoder

from boxsched.webhooks.cleaning import NULL, is_null
from boxsched.webhooks.events import Delivery, Event, Ignored
from boxsched.webhooks.headers import Headers, one
from boxsched.webhooks.outcomes import (
    TAGS,
    Head,
    pushed,
    requested,
    unchanged,
    unnamed,
    unused,
)
from boxsched.webhooks.providers import shapes
from boxsched.webhooks.providers.shapes import Commit, Envelope, Number, Person, Repository

EVENT, DELIVERY = "X-GitHub-Event", "X-GitHub-Delivery"
BUILD = ("opened", "reopened", "synchronize")
CREATED_OR_DELETED = ("create", "delete")


class Push(Struct):
    ref: str
    after: str
    deleted: bool = False
    forced: bool = False
    compare: str | None = None
    head_commit: Commit | None = None
    pusher: Person | None = None
    repository: Repository | None = None


class End(Struct):
    """The head or the base of a pull request. ``repo`` is null for a deleted fork."""

    ref: str | None = None
    sha: str | None = None
    repo: Repository | None = None


class PullRequest(Struct):
    head: End
    base: End
    title: str | None = None
    draft: bool | None = False
    html_url: str | None = None
    user: Person | None = None
    updated_at: str | None = None


class PullRequestEvent(Struct):
    action: str
    number: Number
    pull_request: PullRequest
    repository: Repository | None = None


_PUSH, _REQUEST = Decoder(Push), Decoder(PullRequestEvent)
_ENVELOPE = Decoder(Envelope)


def read(headers: Headers, body: bytes) -> Delivery:
    event = one(headers, EVENT)
    payload: Push | PullRequestEvent | Envelope
    if event == "push":
        payload = _PUSH.decode(body)
        happened = _pushed(payload)
    elif event == "pull_request":
        payload = _REQUEST.decode(body)
        happened = _requested(payload)
    else:
        payload = _ENVELOPE.decode(body)
        happened = _other(event)
    return shapes.delivery(event, one(headers, DELIVERY), payload.repository, happened)


def _pushed(push: Push) -> Event:
    commit = push.head_commit or Commit()
    author, pusher = commit.author or Person(), push.pusher or Person()
    head = Head(
        commit=_hash(push),
        message=commit.message,
        authors=(author.name, author.username, pusher.name),
        links=(push.compare, commit.url),
        at=(push.repository or Repository()).pushed_at,
        forced=push.forced,
    )
    return pushed(push.ref, head)


def _hash(push: Push) -> str:
    if push.deleted:
        return NULL
    # For an annotated tag, ``after`` is the tag object, not the commit.
    if push.ref.startswith(TAGS) and not is_null(push.after) and push.head_commit is not None:
        return push.head_commit.id or push.after
    return push.after


def _requested(event: PullRequestEvent) -> Event:
    action = shapes.build_or_close(event.action, BUILD)
    if action is None:
        return unchanged("pull request", event.action)
    request = event.pull_request
    head = Head(
        commit=request.head.sha,
        authors=((request.user or Person()).login,),
        links=(request.html_url,),
        at=request.updated_at,
    )
    return requested(
        action,
        event.number,
        head,
        title=request.title,
        from_fork=not shapes.same(request.head.repo, request.base.repo),
        draft=bool(request.draft),
        target=request.base.ref,
    )


def _other(event: str | None) -> Ignored:
    if event is None:
        return unnamed(EVENT)
    if event == "ping":
        return Ignored("a ping: the webhook is set up")
    if event in CREATED_OR_DELETED:
        return Ignored("a push event says the same")
    return unused(event)
