"""Turn a code host's delivery into builds, stopped lanes, or a reason to ignore it."""

import attrs
import msgspec

from boxsched.api.messages.requests import AskBuild
from boxsched.api.submitting import new_workloads
from boxsched.api.submitting.known_projects import Known
from boxsched.errors import Invalid
from boxsched.globs import first_match
from boxsched.model import Kind, lane_key
from boxsched.store.delivery_records import LaneEnd, NewDelivery
from boxsched.store.records import NewWorkload
from boxsched.webhooks.events import (
    BranchDeleted,
    ChangeRequest,
    Event,
    Ignored,
    ParsedDelivery,
    Push,
    TagPush,
)
from boxsched.webhooks.repositories import names_repository, shown_repository

MAX_REASON_CHARACTERS = 1_000
BY = "webhook"


@attrs.frozen
class ReceivedRequest:
    """A request with a valid signature: its provider, its time, and its body's SHA-256 sum."""

    provider: str
    received_at: float
    body_sha256: str


@attrs.frozen
class _Change:
    """The result of one event: exactly one of the fields is set."""

    build: NewWorkload | None = None
    end: LaneEnd | None = None
    reason: str | None = None


def new_delivery(known: Known, received: ReceivedRequest, delivery: ParsedDelivery) -> NewDelivery:
    """Return what to store for a delivery. If a setting prevents a build, the event is ignored with
    a reason. It is not an error, because the code host could not correct it.
    """
    repository = known.settings.repository
    if repository is not None and not names_repository(delivery, repository):
        reason = f"it is from another repository: {shown_repository(delivery)}"
        return _stored(known, received, delivery, [_Change(reason=reason)])
    changes = [_change(known, event, received.received_at) for event in delivery.events]
    return _stored(known, received, delivery, changes)


def _stored(
    known: Known, received: ReceivedRequest, delivery: ParsedDelivery, changes: list[_Change]
) -> NewDelivery:
    reasons = dict.fromkeys(one.reason for one in changes if one.reason is not None)
    return NewDelivery(
        project=known.project.id,
        project_version=known.project.version,
        shard=known.organization.shard,
        provider=received.provider,
        event=delivery.event,
        received_at=received.received_at,
        delivery_id=delivery.id,
        body_sha256=received.body_sha256,
        builds=tuple([one.build for one in changes if one.build is not None]),
        ends=tuple([one.end for one in changes if one.end is not None]),
        reason="; ".join(reasons)[:MAX_REASON_CHARACTERS] or None,
    )


def _change(known: Known, event: Event, now: float) -> _Change:
    match event:
        case Ignored():
            return _Change(reason=event.reason)
        case BranchDeleted():
            return _Change(end=_end(known, event.branch, "the deletion of its branch"))
        case ChangeRequest(action="close"):
            return _Change(end=_end(known, event.branch, "the end of its change request"))
    reason = _reason_to_ignore(known, event)
    if reason is not None:
        return _Change(reason=reason)
    try:
        return _Change(build=_build(known, event, now))
    except Invalid as error:
        return _Change(reason=error.message if error.field is None else f"{error.field}: {error}")


def _end(known: Known, branch: str, by: str) -> LaneEnd:
    lane = lane_key(Kind.BUILD, known.project.id, branch, None, None)
    assert lane is not None
    return LaneEnd(lane, by)


def _reason_to_ignore(known: Known, event: Push | TagPush | ChangeRequest) -> str | None:
    """Return why the settings exclude a build; None if they allow it."""
    if isinstance(event, Push):
        patterns = known.globs.build
        if patterns is not None and first_match(event.branch, patterns) is None:
            return f"build_branches does not match {event.branch}"
    elif isinstance(event, ChangeRequest):
        setting = known.settings.pull_requests
        if setting == "none":
            return "pull_requests is none: change requests are not built"
        if event.from_fork and setting != "forks":
            return f"it is from a fork, and pull_requests is {setting}"
        if event.commit is None and (event.from_fork or known.settings.repository is not None):
            return "it does not contain the change request's commit"
    return None


def _build(known: Known, event: Push | TagPush | ChangeRequest, now: float) -> NewWorkload:
    """Return the build. Raises Invalid if the project cannot have such a build."""
    ask = _as_request(event)
    new = attrs.evolve(
        new_workloads.build(known, ask, now),
        compare_url=event.compare_url,
        event_at=event.at,
        submitted_by=BY,
    )
    if isinstance(event, ChangeRequest):
        new = attrs.evolve(new, from_fork=event.from_fork, target_branch=event.target_branch)
    new_workloads.within_limits(new, known.project.max_boxes, known.plan)
    return new


def _as_request(event: Push | TagPush | ChangeRequest) -> AskBuild:
    """Convert the event to a client's request, with the same checks. Raises Invalid."""
    tag = isinstance(event, TagPush)
    said = {
        "tag" if tag else "branch": event.tag if isinstance(event, TagPush) else event.branch,
        "commit": event.commit,
        "message": event.message,
        "author": event.author,
    }
    try:
        return msgspec.convert(said, AskBuild)
    except msgspec.ValidationError as error:
        raise Invalid(str(error)) from None
