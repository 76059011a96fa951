"""GitHub: ``push`` and ``pull_request``.

For a created or deleted branch or tag GitHub also sends a push, so ``create`` and ``delete`` are
ignored. Draft pull requests are built like others, because their authors want the result before a
review. So nothing is built when a draft becomes ready for review.

The documents: https://docs.github.com/en/webhooks/webhook-events-and-payloads
"""

from msgspec import Struct
from msgspec.json import Decoder

from boxsched.webhooks.cleaning import NULL, is_null
from boxsched.webhooks.events import Event, Ignored, ParsedDelivery
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
from boxsched.webhooks.providers.shapes import Commit, Envelope, Number, PayloadRepository, Person

EVENT, DELIVERY = "X-GitHub-Event", "X-GitHub-Delivery"
BUILD = ("opened", "reopened", "synchronize")
CREATED_OR_DELETED = ("create", "delete")


class GithubPush(Struct):
    ref: str
    after: str
    deleted: bool = False
    forced: bool = False
    compare: str | None = None
    head_commit: Commit | None = None
    pusher: Person | None = None
    repository: PayloadRepository | None = None


class GithubEnd(Struct):
    """The head or the base of a pull request. ``repo`` is null for a deleted fork."""

    ref: str | None = None
    sha: str | None = None
    repo: PayloadRepository | None = None


class GithubPullRequest(Struct):
    head: GithubEnd
    base: GithubEnd
    title: str | None = None
    draft: bool | None = False
    html_url: str | None = None
    user: Person | None = None
    updated_at: str | None = None


class GithubPullRequestEvent(Struct):
    action: str
    number: Number
    pull_request: GithubPullRequest
    repository: PayloadRepository | None = None


_PUSH, _REQUEST = Decoder(GithubPush), Decoder(GithubPullRequestEvent)
_ENVELOPE = Decoder(Envelope)


def read(headers: Headers, body: bytes) -> ParsedDelivery:
    event = one(headers, EVENT)
    payload: GithubPush | GithubPullRequestEvent | Envelope
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


def _pushed(push: GithubPush) -> Event:
    commit = push.head_commit or Commit()
    author, pusher = commit.author or Person(), push.pusher or Person()
    head = Head(
        commit=_hash(push),
        message=commit.message,
        authors=(author.name, author.username, pusher.name),
        links=(push.compare, commit.url),
        at=(push.repository or PayloadRepository()).pushed_at,
        forced=push.forced,
    )
    return pushed(push.ref, head)


def _hash(push: GithubPush) -> str:
    if push.deleted:
        return NULL
    # For an annotated tag, ``after`` is the tag object, not the commit.
    if push.ref.startswith(TAGS) and not is_null(push.after) and push.head_commit is not None:
        return push.head_commit.id or push.after
    return push.after


def _requested(event: GithubPullRequestEvent) -> Event:
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
