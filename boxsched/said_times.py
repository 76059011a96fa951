"""Times in sentences of the service, such as why a workload waits.

They are RFC 3339 in whole seconds, so that the page and the commands can show them in the time zone
of the reader, as they show all other times.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime

# The message of a scheduled build begins with this, and contains its planned time.
SCHEDULED = "schedule: "

PATTERN = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)(?!\w)")


def said_time(at: float) -> str:
    """Format seconds since 1970: 2027-01-31T18:00:00Z."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_times(sentence: str, shown: Callable[[datetime], str]) -> str:
    """Return the sentence with each of its times formatted by ``shown``."""

    def replaced(found: re.Match[str]) -> str:
        try:
            return shown(datetime.fromisoformat(found.group()))
        except (ValueError, OverflowError, OSError):
            return found.group()  # not a valid time

    return PATTERN.sub(replaced, sentence)
