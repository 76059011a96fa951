"""Hooks: the body of a request, its delivery id and its signature."""

import hashlib
import hmac
import uuid
from collections.abc import Mapping

import msgspec

from boxsched.outgoing.requests import USER_AGENT, OutgoingRequest

EVENTS = (
    "workload.registered",
    "workload.queued",
    "workload.started",
    "workload.stopping",
    "workload.finished",
)
DELIVERY, EVENT = "X-Boxsched-Delivery", "X-Boxsched-Event"
TIMESTAMP, SIGNATURE = "X-Boxsched-Timestamp", "X-Boxsched-Signature"
NAMESPACE = uuid.UUID("5f1d2c1e-5a42-4f0b-9a5e-6f2b8f3f0a77")


def delivery_id(cluster: str, notification: int, at: float) -> str:
    """Return the id for all tries of a notification; each notification has another one."""
    return str(uuid.uuid5(NAMESPACE, f"{cluster}/{notification}/{at!r}"))


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """Sign timestamp, dot and body, as for the generic webhook."""
    key = secret.encode()
    return "sha256=" + hmac.new(key, timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


def request(
    url: str, delivery: str, event: str, at: str, workload: object, secret: str | None, now: float
) -> OutgoingRequest:
    """Return the request of a hook; it is signed if there is a secret.

    ``workload``: the API's JSON value. ``at``: the time of the event, as text.
    """
    body = msgspec.json.encode(
        {"delivery": delivery, "type": event, "at": at, "workload": workload}
    )
    headers = {
        "Content-Type": "application/json",
        "User-Agent": USER_AGENT,
        EVENT: event,
        DELIVERY: delivery,
        **(_signed(secret, str(int(now)), body) if secret else {}),
    }
    return OutgoingRequest(url, headers, body)


def _signed(secret: str, timestamp: str, body: bytes) -> Mapping[str, str]:
    return {TIMESTAMP: timestamp, SIGNATURE: signature(secret, timestamp, body)}
