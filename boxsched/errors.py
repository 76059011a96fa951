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
    """The request is malformed, for example not JSON: send it well-formed."""

    code, status = "malformed", 400


class Unauthorized(BoxschedError):
    """No token, or an invalid or expired one: sign in."""

    code, status = "unauthorized", 401


class NotSigned(BoxschedError):
    """A delivery is not signed with the project's webhook secret: set it at the code host."""

    code, status = "not_signed", 401


class Forbidden(BoxschedError):
    """The token is valid, but does not allow this: ask for the permission."""

    code, status = "forbidden", 403


class NotFound(BoxschedError):
    """Nothing has that name or id: look it up."""

    code, status = "not_found", 404


class Conflict(BoxschedError):
    """The current state does not allow it: read it again, then decide."""

    code, status = "conflict", 409


class Outdated(Conflict):
    """It has changed since it was read: read it again, then decide."""

    code, status = "outdated", 412


class LeaseEnded(Conflict):
    """This worker does not hold the job under this lease: end the attempt."""

    code = "lease_ended"


class SecretsUnusable(Conflict):
    """This node has no key for secrets, or not the required one: give it the key."""

    code = "secrets_unusable"


class TooLarge(BoxschedError):
    """More than the limit: send less."""

    code, status = "too_large", 413


class Invalid(BoxschedError):
    """Well-formed, but a value is invalid: change the field that the error names."""

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
    no_room = False  # True: a disk is full; work continues when there is space


def disk_full(message: str) -> StoreAway:
    error = StoreAway(message)
    error.no_room = True
    return error


class TooLong(StoreAway):
    """A statement was stopped at its deadline, nothing was done: ask for less, or try again."""

    code = "too_long"


class OutcomeUnknown(StoreAway):
    """The connection broke during the commit: it may have succeeded; repeat with the same key."""

    code = "outcome_unknown"


class Fenced(BoxschedError):
    """This engine no longer leads the shard: drop the core and load the shard again."""

    code, status = "fenced", 503


class NodeFailed(BoxschedError):
    """A part of the node could not start, or ended unexpectedly: see its log."""

    code = "node_failed"
