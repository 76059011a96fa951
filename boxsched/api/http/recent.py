"""Keep answers to requests with an Idempotency-Key in memory, to return them again.

The store keeps keys for ``retention.KEY_SECONDS``; this cache saves reading them.
"""

import hashlib
from collections import OrderedDict

import attrs
from aiohttp import web

from boxsched.api.auth.actor import organization_of
from boxsched.api.http import replies
from boxsched.errors import Conflict, Invalid
from boxsched.model import MAX_NAME_CHARACTERS, ProjectId, full_name
from boxsched.store.records import IdempotencyKey, KeyTaken, Submitted

KEPT_BYTES_AT_MOST = 16 << 20
_OVERHEAD_BYTES = 600  # memory for the keys of an entry

PRINCIPAL = web.RequestKey("principal", str)  # the caller; set by the guard

_Known = tuple[str, str, ProjectId | None]  # scope, key, project

KEY_TAKEN = "this Idempotency-Key was used with another body before: use a new key"


@attrs.frozen
class RecentAnswer:
    body_sha256: str
    status: int
    body: bytes
    location: str | None

    def again(self) -> web.Response:
        if self.location is not None:
            return replies.created(self.body, self.location)
        return replies.json_bytes(self.body, self.status)

    @property
    def size(self) -> int:
        return len(self.body) + _OVERHEAD_BYTES


def key_of(request: web.Request, path: str, body: bytes) -> IdempotencyKey | None:
    """Return the request's key. ``path``: normalized, so that all spellings have one scope."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if not 0 < len(key) <= MAX_NAME_CHARACTERS or not (key.isascii() and key.isprintable()):
        raise Invalid(
            f"must be 1 to {MAX_NAME_CHARACTERS} printable ASCII characters", "Idempotency-Key"
        )
    scope = f"{request[PRINCIPAL]} {full_name(organization_of(request).id, path)}"
    return IdempotencyKey(scope, key, hashlib.sha256(body).hexdigest())


def repeated(before: Submitted | KeyTaken | None) -> bool:
    """Whether the key was used before. Raises Conflict if that was with another body."""
    if isinstance(before, KeyTaken):
        raise Conflict(KEY_TAKEN)
    return before is not None and before.repeated


class RecentAnswers:
    """A cache of answers with at most KEPT_BYTES_AT_MOST bytes; the oldest are dropped first."""

    def __init__(self, at_most: int = KEPT_BYTES_AT_MOST) -> None:
        self._kept: OrderedDict[_Known, RecentAnswer] = OrderedDict()
        self._bytes = 0
        self._at_most = at_most

    def knows(self, key: IdempotencyKey | None, project: ProjectId) -> bool:
        """Whether an answer is known."""
        return key is not None and (key.scope, key.key, project) in self._kept

    def again(
        self, key: IdempotencyKey | None, project: ProjectId | None = None
    ) -> web.Response | None:
        """Return the first answer for the key. Raises Conflict if that request had another body.

        ``project``: of a submission, because its path contains only the project's name.
        """
        if key is None:
            return None
        answer = self._kept.get((key.scope, key.key, project))
        if answer is None:
            return None
        if answer.body_sha256 != key.body_sha256:
            raise Conflict(KEY_TAKEN)
        return answer.again()

    def keep(
        self,
        key: IdempotencyKey | None,
        status: int,
        body: bytes,
        location: str | None = None,
        project: ProjectId | None = None,
    ) -> None:
        if key is None or (key.scope, key.key, project) in self._kept:
            return
        answer = RecentAnswer(key.body_sha256, status, body, location)
        self._kept[key.scope, key.key, project] = answer
        self._bytes += answer.size
        while self._bytes > self._at_most:
            self._bytes -= self._kept.popitem(last=False)[1].size
