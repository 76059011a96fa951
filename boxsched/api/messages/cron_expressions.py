"""Check cron expressions and time zones with ``cronsim`` and ``zoneinfo``."""

import functools
import zoneinfo
from datetime import UTC, datetime
from importlib import resources

from cronsim import CronSim, CronSimError

from boxsched.cron import ALIASES
from boxsched.errors import Invalid
from boxsched.nearest import unknown

_ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)


def check_cron(text: str, field: str) -> None:
    """Check a cron expression: five fields as in Debian's cron, or a name such as @daily. Raises
    Invalid, also if it has no time in the next 50 years.
    """
    if text.startswith("@"):
        if text not in ALIASES:
            raise Invalid(unknown("unknown schedule name", text, ALIASES), field)
        return
    # cronsim would accept a sixth field, for seconds
    if not text.isascii() or len(text.split()) != 5:
        raise Invalid("must be five fields: minute, hour, day, month, weekday", field)
    try:
        next(CronSim(text, _ANY_TIME))
    except CronSimError as error:
        wrong = str(error)
        raise Invalid(f"not a cron expression: {wrong[:1].lower()}{wrong[1:]}", field) from None
    except StopIteration:
        raise Invalid("no day in the next 50 years matches", field) from None


def check_time_zone(name: str, field: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zones = _zones()
        raise Invalid(unknown("unknown time zone", name, zones, len(zones)), field) from None


@functools.cache
def _zones() -> tuple[str, ...]:
    """Return all zone names. Cached, because zoneinfo opens the file of each zone."""
    return tuple(resources.files("tzdata").joinpath("zones").read_text("ascii").split())
