"""Deliveries of code hosts, as the store takes and returns them; see ``records``."""

import enum

import attrs

from boxsched.model import ProjectId, WorkloadId
from boxsched.store.records import ROW_BYTES, NewWorkload


class DeliveryResult(enum.StrEnum):
    """What came of a delivery of a code host."""

    CREATED = "created"  # builds
    CANCELED = "canceled"  # what was unfinished of a branch or a change request
    DUPLICATE = "duplicate"  # it came before: nothing was done again
    IGNORED = "ignored"


@attrs.frozen
class LaneEnd:
    """A branch or a change request is gone: what is unfinished in its lane is canceled or stopped.

    ``by``: who asks for it, to be shown: "canceled by ...".
    """

    lane: str
    by: str


@attrs.frozen
class NewDelivery:
    """A well-signed delivery, and what is to follow from it.

    ``delivery_id`` is the host's id of it. ``ends`` come before ``builds``; where there is neither,
    it is ignored, and ``reason`` says why. All was checked against ``project_version``.
    """

    project: ProjectId
    project_version: int
    provider: str
    event: str
    received_at: float
    delivery_id: str | None
    body_sha256: str
    builds: tuple[NewWorkload, ...] = ()
    ends: tuple[LaneEnd, ...] = ()
    reason: str | None = None

    @property
    def result(self) -> DeliveryResult:
        """What it leads to if it did not come before."""
        if self.builds:
            return DeliveryResult.CREATED
        return DeliveryResult.CANCELED if self.ends else DeliveryResult.IGNORED

    @property
    def size(self) -> int:
        """About how many bytes it takes in the store."""
        return ROW_BYTES + sum(new.size for new in self.builds)


@attrs.frozen
class RepeatedDelivery:
    """A well-signed delivery that seems to have come before, with the same body."""

    project: ProjectId
    project_version: int
    provider: str
    received_at: float
    body_sha256: str


@attrs.frozen
class Delivered:
    """A delivery is stored. ``workloads``: what it created, or else canceled or stopped; those of
    the first one where it is a duplicate."""

    result: DeliveryResult
    workloads: tuple[WorkloadId, ...]
    reason: str | None = None

    @property
    def changes(self) -> bool:
        """Whether anything followed from it."""
        return self.result in (DeliveryResult.CREATED, DeliveryResult.CANCELED)


@attrs.frozen
class Delivery:
    """A delivery as it is listed."""

    id: int
    provider: str
    event: str
    project: str
    received_at: float
    result: DeliveryResult
    reason: str | None
    workloads: tuple[WorkloadId, ...]


@attrs.frozen
class WebhookSecrets:
    """A project's webhook secrets, as they are stored."""

    project: ProjectId
    now: str | None = attrs.field(repr=False)
    before: str | None = attrs.field(repr=False)
    until: float | None  # so long the one before is good, too
