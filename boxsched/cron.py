"""Cron expressions in a time zone: their next times, and their meaning in words.

The expressions are those of Debian's cron, read by ``cronsim``: five fields, or a name such as
@daily. When clocks change for summer time, an expression with a fixed time of day still occurs
once: right after the skipped hour, or in the first of the two repeated hours. An expression whose
minutes or hours begin with ``*`` follows elapsed time.
"""

import zoneinfo
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, tzinfo

from cronsim import CronSim, CronSimError

from boxsched.errors import Invalid

ALIASES: Mapping[str, str] = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}


def times_after(cron: str, time_zone: str, after: float) -> Iterator[float]:
    """Yield the times after ``after``, in order, in seconds since the epoch; they may end.

    ``time_zone``: a zoneinfo name, "" for UTC. Raises Invalid for an unknown time zone.
    """
    zone = _zone(time_zone)
    try:
        found = CronSim(ALIASES.get(cron, cron), datetime.fromtimestamp(after, zone))
    except CronSimError as error:
        raise Invalid(f"not a cron expression: {error}", "cron") from None
    last = after
    for time in found:
        # If ``after`` is in the second of two repeated hours, cronsim starts in the first.
        if (at := time.timestamp()) > last:
            last = at
            yield at


def explanation(cron: str) -> str:
    """Return the expression in words: "At 00:00 every day"."""
    found: str = CronSim(ALIASES.get(cron, cron), datetime(2024, 1, 1, tzinfo=UTC)).explain()
    return found


def local_time(at: float, time_zone: str) -> str:
    """Return the zone's local time in RFC 3339: 2027-03-28T03:00:00+02:00."""
    return datetime.fromtimestamp(at, _zone(time_zone)).isoformat(timespec="seconds")


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(f"unknown time zone {name[:80]!a}", "time_zone") from None
