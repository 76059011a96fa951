"""Forgejo: Gitea's payloads, with Forgejo's headers in addition to Gitea's."""

from boxsched.webhooks.events import ParsedDelivery
from boxsched.webhooks.headers import Headers, one
from boxsched.webhooks.providers import gitea

EVENT, DELIVERY = "X-Forgejo-Event", "X-Forgejo-Delivery"


def read(headers: Headers, body: bytes) -> ParsedDelivery:
    event = one(headers, EVENT) or one(headers, gitea.EVENT)
    id_ = one(headers, DELIVERY) or one(headers, gitea.DELIVERY)
    return gitea.read_event(event, id_, body)
