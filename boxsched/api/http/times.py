"""Times in answers: RFC 3339 in UTC, with six decimals and ``Z``."""

import functools
from datetime import UTC, datetime

from boxsched.errors import Invalid

SECONDS_KEPT = 8_192  # an answer with ten thousand rows repeats the same seconds


def rfc3339(time: float) -> str:
    """Format seconds since 1970, as in events. Each second is formatted once and cached."""
    second = int(time)
    micros = round((time - second) * 1e6)
    if micros == 1_000_000:
        second, micros = second + 1, 0
    return f"{_second(second)}.{micros:06d}Z"


def parsed(text: str, field: str) -> float:
    """Parse an RFC 3339 time with an offset from UTC into seconds since 1970. Raises Invalid."""
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is not None:
            return time.astimezone(UTC).timestamp()  # which must be a year that can be shown, too
    except (ValueError, OverflowError):
        pass
    raise Invalid("must be a time such as 2027-01-31T18:00:00Z", field)


def text_time(time: float | None) -> str | None:
    return None if time is None else rfc3339(time)


@functools.lru_cache(maxsize=SECONDS_KEPT)
def _second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
