"""Gogs: ``push`` of branches, ``create`` of tags, ``delete``, and ``pull_request``.

For a new branch Gogs sends ``create`` and ``push``, for a new tag only ``create``. The payload of a
pull request does not contain the head's commit.

The documents: https://github.com/gogs/docs-api, "Webhooks"
"""

from msgspec import Struct
from msgspec.json import Decoder

from boxsched.webhooks.events import Event, Ignored, ParsedDelivery
from boxsched.webhooks.headers import Headers, one
from boxsched.webhooks.outcomes import (
    Head,
    pushed_tag,
    requested,
    unchanged,
    unnamed,
    unused,
)
from boxsched.webhooks.providers import shapes
from boxsched.webhooks.providers.gitea import BUILD, Deletion, GiteaPush, deleted, pushed_head
from boxsched.webhooks.providers.shapes import Envelope, Number, PayloadRepository, Person

EVENT, DELIVERY = "X-Gogs-Event", "X-Gogs-Delivery"


class Creation(Struct):
    """Versions before 0.12 do not send ``sha``."""

    ref: str
    ref_type: str
    sha: str | None = None
    sender: Person | None = None
    repository: PayloadRepository | None = None


class GogsPullRequest(Struct):
    title: str | None = None
    user: Person | None = None
    head_repo: PayloadRepository | None = None
    base_repo: PayloadRepository | None = None
    base_branch: str | None = None
    html_url: str | None = None


class GogsPullRequestEvent(Struct):
    action: str
    number: Number
    pull_request: GogsPullRequest
    repository: PayloadRepository | None = None


_PUSH, _DELETION, _CREATION = Decoder(GiteaPush), Decoder(Deletion), Decoder(Creation)
_REQUEST, _ENVELOPE = Decoder(GogsPullRequestEvent), Decoder(Envelope)


def read(headers: Headers, body: bytes) -> ParsedDelivery:
    event = one(headers, EVENT)
    payload: GiteaPush | Deletion | Creation | GogsPullRequestEvent | Envelope
    happened: Event
    if event == "push":
        payload = _PUSH.decode(body)
        happened = pushed_head(payload)
    elif event == "create":
        payload = _CREATION.decode(body)
        happened = _created(payload)
    elif event == "delete":
        payload = _DELETION.decode(body)
        happened = deleted(payload)
    elif event == "pull_request":
        payload = _REQUEST.decode(body)
        happened = _requested(payload)
    else:
        payload = _ENVELOPE.decode(body)
        happened = unnamed(EVENT) if event is None else unused(event)
    return shapes.delivery(event, one(headers, DELIVERY), payload.repository, happened)


def _created(payload: Creation) -> Event:
    if payload.ref_type != "tag":
        return Ignored("a push event says the same")
    sender = payload.sender or Person()
    authors = (sender.full_name, sender.login)
    return pushed_tag(
        payload.ref.removeprefix("refs/tags/"), Head(commit=payload.sha, authors=authors)
    )


def _requested(event: GogsPullRequestEvent) -> Event:
    action = shapes.build_or_close(event.action, BUILD)
    if action is None:
        return unchanged("pull request", event.action)
    request = event.pull_request
    user = request.user or Person()
    return requested(
        action,
        event.number,
        Head(
            commit=None,
            authors=(user.full_name, user.login),
            links=(request.html_url,),
        ),
        title=request.title,
        from_fork=not shapes.same(request.head_repo, request.base_repo),
        target=request.base_branch,
    )
