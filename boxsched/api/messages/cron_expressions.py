"""Cron expressions and time zones, as ``cronsim`` and ``zoneinfo`` read them; 422 for the rest."""

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
    """Five fields as Debian's cron has them, or a name such as @daily; and it must ever come."""
    if text.startswith("@"):
        if text not in ALIASES:
            raise Invalid(unknown("unknown name of a schedule", text, ALIASES), field)
        return
    if not text.isascii() or len(text.split()) != 5:  # cronsim takes six, the first for seconds
        raise Invalid("must be five fields: minute, hour, day, month, weekday", field)
    try:
        next(CronSim(text, _ANY_TIME))
    except CronSimError as error:
        wrong = str(error)
        raise Invalid(f"not a cron expression: {wrong[:1].lower()}{wrong[1:]}", field) from None
    except StopIteration:
        raise Invalid("there is no such day in the next 50 years", field) from None


def check_time_zone(name: str, field: str) -> None:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        zones = _zones()
        raise Invalid(unknown("unknown time zone", name, zones, len(zones)), field) from None


@functools.cache
def _zones() -> tuple[str, ...]:
    """All names: zoneinfo would open each zone's file for them."""
    return tuple(resources.files("tzdata").joinpath("zones").read_text("ascii").split())
