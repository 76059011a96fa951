"""Values for code hosts' deliveries, which the store takes and returns; see ``records``."""

import enum

import attrs

from boxsched.model import ProjectId, WorkloadId
from boxsched.protocol.shards import SHARD
from boxsched.store.records import ROW_BYTES, NewWorkload


class DeliveryResult(enum.StrEnum):
    """The result of a code host's delivery."""

    CREATED = "created"  # it created builds
    CANCELED = "canceled"  # unfinished builds of a branch or a change request
    DUPLICATE = "duplicate"  # it was received before: nothing was done again
    IGNORED = "ignored"


@attrs.frozen
class LaneEnd:
    """The end of a branch or a change request: unfinished builds of its lane are canceled or
    stopped.

    ``by``: the cause for the reason text "canceled by ...".
    """

    lane: str
    by: str


@attrs.frozen
class NewDelivery:
    """A delivery with a valid signature, and its results.

    ``delivery_id``: the host's id. ``ends`` are applied before ``builds``; if both are empty, it is
    ignored, and ``reason`` says why. All of it was checked against ``project_version``.
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
    shard: int = SHARD  # of its project's organization, when it was checked

    @property
    def result(self) -> DeliveryResult:
        """Return its result, if it was not received before."""
        if self.builds:
            return DeliveryResult.CREATED
        return DeliveryResult.CANCELED if self.ends else DeliveryResult.IGNORED

    @property
    def size(self) -> int:
        """Return its approximate size in the store, in bytes."""
        return ROW_BYTES + sum(new.size for new in self.builds)


@attrs.frozen
class RepeatedDelivery:
    """A delivery with a valid signature whose body was probably received before."""

    project: ProjectId
    project_version: int
    provider: str
    received_at: float
    body_sha256: str


@attrs.frozen
class Delivered:
    """A stored delivery. ``workloads``: those that it created, canceled or stopped; for a duplicate
    those of the first delivery.
    """

    result: DeliveryResult
    workloads: tuple[WorkloadId, ...]
    reason: str | None = None

    @property
    def changes(self) -> bool:
        """Whether it changed anything."""
        return self.result in (DeliveryResult.CREATED, DeliveryResult.CANCELED)


@attrs.frozen
class StoredDelivery:
    """A delivery for a list."""

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
    """A project's webhook secrets in their stored form."""

    project: ProjectId
    now: str | None = attrs.field(repr=False)
    before: str | None = attrs.field(repr=False)
    until: float | None  # until then the previous secret is also valid
