"""One error for each thing a caller can do about it. The docstring says which."""


class BoxschedError(Exception):
    """Base of all errors that a caller may see; ``code`` is in docs/api.md,
    "Errors"."""

    code = "error"
    status = 500

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Malformed(BoxschedError):
    """The request is not what it claims to be (not JSON, say): send it well-formed."""

    code, status = "malformed", 400


class Unauthorized(BoxschedError):
    """No token, or one that does not hold: sign in."""

    code, status = "unauthorized", 401


class NotSigned(BoxschedError):
    """A delivery of a code host is not signed with the project's webhook secret: set it there."""

    code, status = "not_signed", 401


class Forbidden(BoxschedError):
    """The token holds, but not for this: ask for the right."""

    code, status = "forbidden", 403


class NotFound(BoxschedError):
    """There is nothing under that name or id: look it up."""

    code, status = "not_found", 404


class Conflict(BoxschedError):
    """The state of things does not allow it: read again, decide anew."""

    code, status = "conflict", 409


class Outdated(Conflict):
    """It has changed since it was read: read it again, decide anew."""

    code, status = "outdated", 412


class SecretsUnusable(Conflict):
    """This node has no key for secrets, or not the one that is needed: give it the key."""

    code = "secrets_unusable"


class TooLarge(BoxschedError):
    """More than the limit: send less."""

    code, status = "too_large", 413


class Invalid(BoxschedError):
    """Well-formed, but it does not make sense: change the field named."""

    code, status = "invalid", 422


class TooMany(BoxschedError):
    """Too many requests: try again after ``retry_after`` seconds."""

    code, status = "too_many", 429

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoreAway(BoxschedError):
    """The database does not answer, or cannot write: nothing was done; try later."""

    code, status = "store_away", 503
    no_room = False  # a disk is full: it goes on when there is room


def disk_full(message: str) -> StoreAway:
    error = StoreAway(message)
    error.no_room = True
    return error


class TooLong(StoreAway):
    """A statement was stopped at its deadline, nothing was done: ask for less, or try again."""

    code = "too_long"


class OutcomeUnknown(StoreAway):
    """The connection broke while committing: it may have been done; repeat with the same key."""

    code = "outcome_unknown"


class Fenced(BoxschedError):
    """This engine no longer leads the shard: drop the core and load the shard again."""

    code, status = "fenced", 503


class NodeFailed(BoxschedError):
    """A part of the node could not start, or ended that never should: see its log."""

    code = "node_failed"
