"""GitLab: pushes, tag pushes and merge requests, by the payload's ``object_kind``.

A system hook sends the events of a whole instance; for a push it has ``event_name`` instead. A
merge request's ``update`` is a push only with ``oldrev``; without it a title or a label was
changed. Draft merge requests are built like others.

The documents: https://docs.gitlab.com/user/project/integrations/webhook_events/
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct
from msgspec.json import Decoder

from boxsched.webhooks.events import Event, Ignored, ParsedDelivery
from boxsched.webhooks.headers import Headers, one
from boxsched.webhooks.outcomes import Head, delivery, pushed, requested, unchanged, unused
from boxsched.webhooks.providers.shapes import Commit, Number, Person

# The first stays the same when a delivery is sent again. Versions before 17.4 send only the second.
DELIVERY = ("Idempotency-Key", "X-Gitlab-Event-UUID")
PUSHES = ("push", "tag_push")
BUILD, CLOSE = ("open", "reopen"), ("close", "merge")


class GitlabProject(Struct):
    path_with_namespace: str | None = None
    web_url: str | None = None
    git_http_url: str | None = None
    git_ssh_url: str | None = None
    default_branch: str | None = None


class GitlabEnvelope(Struct):
    """A payload of any kind: ``object_kind`` from a hook, ``event_name`` from a system hook."""

    object_kind: str | None = None
    event_name: str | None = None
    project: GitlabProject | None = None


class GitlabPush(Struct):
    """``checkout_sha``: the commit that an annotated tag names; null when the ref was deleted."""

    ref: str
    after: str
    checkout_sha: str | None = None
    user_name: str | None = None
    commits: list[Commit] | None = None


class Attributes(Struct):
    iid: Number
    action: str | None = None
    oldrev: str | None = None
    title: str | None = None
    source_project_id: int | None = None
    target_project_id: int | None = None
    target_branch: str | None = None
    last_commit: Commit | None = None
    draft: bool | None = None
    work_in_progress: bool | None = None
    url: str | None = None
    updated_at: str | None = None


class MergeRequest(Struct):
    object_attributes: Attributes
    user: Person | None = None


_ENVELOPE = Decoder(GitlabEnvelope)
_PUSH, _REQUEST = Decoder(GitlabPush), Decoder(MergeRequest)


def read(headers: Headers, body: bytes) -> ParsedDelivery:
    envelope = _ENVELOPE.decode(body)
    kind = envelope.object_kind or envelope.event_name
    if kind in PUSHES:
        happened = _pushed(_PUSH.decode(body))
    elif kind == "merge_request":
        happened = _requested(_REQUEST.decode(body))
    elif kind is None:
        happened = Ignored("the payload has no object_kind")
    else:
        happened = unused(kind)
    project = envelope.project or GitlabProject()
    id_ = one(headers, DELIVERY[0]) or one(headers, DELIVERY[1])
    return delivery(kind, id_, _names(project), project.default_branch, [happened])


def _names(project: GitlabProject) -> Sequence[str | None]:
    return (
        project.git_http_url,
        project.git_ssh_url,
        project.web_url,
        project.path_with_namespace,
    )


def _pushed(push: GitlabPush) -> Event:
    hash_ = push.checkout_sha or push.after
    commit = next((each for each in push.commits or () if each.id == hash_), Commit())
    head = Head(
        commit=push.after if push.checkout_sha is None else hash_,
        message=commit.message,
        authors=((commit.author or Person()).name, push.user_name),
        links=(commit.url,),
    )
    return pushed(push.ref, head)


def _requested(event: MergeRequest) -> Event:
    request = event.object_attributes
    action: Literal["build", "close"]
    if request.action in BUILD or (request.action == "update" and request.oldrev):
        action = "build"
    elif request.action in CLOSE:
        action = "close"
    elif request.action == "update":
        return Ignored("the merge request was changed, but not its code")
    else:
        return unchanged("merge request", request.action)
    commit = request.last_commit or Commit()
    author, user = commit.author or Person(), event.user or Person()
    source = request.source_project_id
    head = Head(
        commit=commit.id,
        message=commit.message,
        authors=(author.name, user.name),
        links=(request.url,),
        at=request.updated_at,
    )
    return requested(
        action,
        request.iid,
        head,
        title=request.title,
        from_fork=source is None or source != request.target_project_id,
        draft=bool(request.draft or request.work_in_progress),
        target=request.target_branch,
    )
