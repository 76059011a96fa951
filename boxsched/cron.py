"""Cron expressions in a time zone: when they come next, and what they say in words.

The expressions are those of Debian's cron, read by ``cronsim``: five fields, or a name such as
@daily. When clocks change for summer time, a job at a fixed time of day comes once: at the first
moment after the hour that is left out, and in the first of the two hours that are alike. One that
begins with ``*`` in its minutes or hours comes by the time that really passes.
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
    """The times behind ``after``, in order, in seconds since the epoch; they may end.

    ``time_zone``: a name of zoneinfo, "" for UTC. Raises Invalid for what is not known here.
    """
    zone = _zone(time_zone)
    try:
        found = CronSim(ALIASES.get(cron, cron), datetime.fromtimestamp(after, zone))
    except CronSimError as error:
        raise Invalid(f"not a cron expression: {error}", "cron") from None
    last = after
    for time in found:
        # From within the second of two hours that are alike, cronsim begins in the first one.
        if (at := time.timestamp()) > last:
            last = at
            yield at


def explanation(cron: str) -> str:
    """The expression in words: "At 00:00 every day"."""
    found: str = CronSim(ALIASES.get(cron, cron), datetime(2024, 1, 1, tzinfo=UTC)).explain()
    return found


def local_time(at: float, time_zone: str) -> str:
    """RFC 3339, as clocks of the zone show it: 2027-03-28T03:00:00+02:00."""
    return datetime.fromtimestamp(at, _zone(time_zone)).isoformat(timespec="seconds")


def _zone(name: str) -> tzinfo:
    if not name:
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid(f"unknown time zone {name[:80]!a}", "time_zone") from None
