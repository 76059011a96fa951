"""The errors for answers with a status of 300 or more."""

from collections.abc import Mapping

import msgspec
from yarl import URL

from boxsched import errors
from boxsched.reaching import foreign

MAX_REFUSAL_BYTES = 65_536
FOREIGN = "foreign"  # the code of a refusal by another program, such as a proxy

_BY_CODE: Mapping[str, type[errors.BoxschedError]] = {
    error.code: error
    for error in (
        errors.Malformed,
        errors.Unauthorized,
        errors.Forbidden,
        errors.NotFound,
        errors.Conflict,
        errors.Outdated,
        errors.TooLarge,
        errors.Invalid,
        errors.StoreAway,
        errors.OutcomeUnknown,
        errors.Fenced,
    )
}
_BY_STATUS = {
    error.status: error for error in _BY_CODE.values() if error.status != errors.StoreAway.status
}


class Unreachable(errors.BoxschedError):
    """The service does not answer. ``absent``: nothing listens there, so start it."""

    code, status = "unreachable", 503

    def __init__(self, message: str, *, absent: bool = False) -> None:
        super().__init__(message)
        self.absent = absent


class _Refusal(msgspec.Struct):
    code: str
    message: str
    field: str | None = None


class _Refused(msgspec.Struct):
    error: _Refusal


def refusal(status: int, body: bytes, headers: Mapping[str, str], url: URL) -> errors.BoxschedError:
    """Return the error for an answer of 300 or more. Its code takes precedence over its status."""
    try:
        said = msgspec.json.decode(body, type=_Refused).error
    except (msgspec.DecodeError, UnicodeDecodeError):
        said = _Refusal(FOREIGN, foreign(status, url, headers.get("Location")))
    if status == errors.TooMany.status:
        after = headers.get("Retry-After", "")
        seconds = int(after) if after.isdecimal() and len(after) < 10 else 1
        return errors.TooMany(said.message, seconds)
    kind = _BY_CODE.get(said.code) or _BY_STATUS.get(status)
    if kind is not None:
        error = kind(said.message, said.field)
    else:
        error = errors.StoreAway(said.message) if status >= 500 else errors.Invalid(said.message)
    error.code = said.code or error.code
    return error
