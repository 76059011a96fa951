"""Gitea: ``push``, ``delete`` of a branch, and ``pull_request``. Forgejo sends the same, with its
own headers.

For a new branch or tag Gitea also sends a push, so ``create`` is ignored. For a deleted branch it
sends only ``delete``. Draft pull requests are built like others. A pull request that was pushed to
``refs/for/`` ("AGit") has its head in the base repository, but its author may have no write access
there. So it counts as from a fork.

The documents: https://docs.gitea.com/usage/webhooks
"""

from msgspec import Struct
from msgspec.json import Decoder

from boxsched.webhooks.events import Event, Ignored, ParsedDelivery
from boxsched.webhooks.headers import Headers, one
from boxsched.webhooks.outcomes import (
    Head,
    deleted_branch,
    deleted_tag,
    pushed,
    requested,
    unchanged,
    unnamed,
    unused,
)
from boxsched.webhooks.providers import shapes
from boxsched.webhooks.providers.shapes import Commit, Envelope, Number, PayloadRepository, Person

EVENT, DELIVERY = "X-Gitea-Event", "X-Gitea-Delivery"
REQUESTS = ("pull_request", "pull_request_sync")
BUILD = ("opened", "reopened", "synchronized")
PULLS = "refs/pull/"


class GiteaPush(Struct):
    ref: str
    after: str
    compare_url: str | None = None
    head_commit: Commit | None = None
    commits: list[Commit] | None = None
    pusher: Person | None = None
    repository: PayloadRepository | None = None


class Deletion(Struct):
    ref: str
    ref_type: str
    repository: PayloadRepository | None = None


class GiteaEnd(Struct):
    label: str | None = None
    ref: str | None = None
    sha: str | None = None
    repo_id: int | None = None
    repo: PayloadRepository | None = None


class GiteaPullRequest(Struct):
    head: GiteaEnd
    base: GiteaEnd
    title: str | None = None
    draft: bool | None = None
    html_url: str | None = None
    user: Person | None = None
    updated_at: str | None = None


class GiteaPullRequestEvent(Struct):
    action: str
    number: Number
    pull_request: GiteaPullRequest
    repository: PayloadRepository | None = None


_PUSH, _DELETION, _REQUEST = Decoder(GiteaPush), Decoder(Deletion), Decoder(GiteaPullRequestEvent)
_ENVELOPE = Decoder(Envelope)


def read(headers: Headers, body: bytes) -> ParsedDelivery:
    return read_event(one(headers, EVENT), one(headers, DELIVERY), body)


def read_event(event: str | None, id_: str | None, body: bytes) -> ParsedDelivery:
    """Read a payload. ``event`` and ``id_``: from the headers of Gitea or Forgejo."""
    payload: GiteaPush | Deletion | GiteaPullRequestEvent | Envelope
    if event == "push":
        payload = _PUSH.decode(body)
        happened = pushed_head(payload)
    elif event == "delete":
        payload = _DELETION.decode(body)
        happened = deleted(payload)
    elif event in REQUESTS:
        payload = _REQUEST.decode(body)
        happened = _requested(payload)
    else:
        payload = _ENVELOPE.decode(body)
        happened = _other(event)
    return shapes.delivery(event, id_, payload.repository, happened)


def pushed_head(push: GiteaPush) -> Event:
    """Return the head of a push. Gogs sends no ``head_commit``, so ``commits`` is searched."""
    commits = push.commits or ()
    head = next((each for each in commits if each.id == push.after), Commit())
    commit = push.head_commit or head
    author, pusher = commit.author or Person(), push.pusher or Person()
    names = (author.name, author.username, pusher.full_name, pusher.login)
    links = (push.compare_url, commit.url)
    return pushed(
        push.ref, Head(commit=push.after, message=commit.message, authors=names, links=links)
    )


def deleted(payload: Deletion) -> Event:
    if payload.ref_type == "branch":
        return deleted_branch(payload.ref.removeprefix("refs/heads/"))
    return deleted_tag(payload.ref.removeprefix("refs/tags/"))


def _requested(event: GiteaPullRequestEvent) -> Event:
    action = shapes.build_or_close(event.action, BUILD)
    if action is None:
        return unchanged("pull request", event.action)
    request = event.pull_request
    user = request.user or Person()
    head = Head(
        commit=request.head.sha,
        authors=(user.full_name, user.login),
        links=(request.html_url,),
        at=request.updated_at,
    )
    return requested(
        action,
        event.number,
        head,
        title=request.title,
        from_fork=_is_fork(request.head, request.base),
        draft=bool(request.draft),
        target=request.base.ref,
    )


def _is_fork(head: GiteaEnd, base: GiteaEnd) -> bool:
    if head.label == "" or (head.ref or "").startswith(PULLS):
        return True
    if head.repo_id is not None and base.repo_id is not None:
        return head.repo_id != base.repo_id
    return not shapes.same(head.repo, base.repo)


def _other(event: str | None) -> Ignored:
    if event is None:
        return unnamed(EVENT)
    if event == "create":
        return Ignored("a push event says the same")
    return unused(event)
