"""Organizations for tests that need one without a store."""

from boxsched.model import DEFAULT_ORGANIZATION, Policy
from boxsched.protocol.shards import Organization


def organization(max_boxes: int | None = None) -> Organization:
    return Organization(DEFAULT_ORGANIZATION, "default", Policy.BACKFILL, max_boxes, None)
