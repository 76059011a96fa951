"""Decide when a failed delivery is tried again."""

import datetime
import email.utils

from boxsched.backoff import Backoff

FIRST_SECONDS, LONGEST_SECONDS = 5.0, 3_600.0
GIVEN_UP_SECONDS = 86_400.0  # after the change, or after an operator sent it again


def pause_after(failures: int, chance: float) -> float:
    """Return the seconds before the next try. ``chance``: 0 to 1, for 50 % to 150 % of them."""
    backoff = Backoff(FIRST_SECONDS, LONGEST_SECONDS)
    pause = FIRST_SECONDS
    for _ in range(min(failures, 20)):
        pause = backoff.next()
    return pause * (0.5 + chance)


def retry_after(text: str | None, now: float) -> float:
    """Return the seconds of a ``Retry-After`` (number or date), at most a day; 0.0 without it."""
    if text is None:
        return 0.0
    text = text.strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:9]), GIVEN_UP_SECONDS)
    try:
        at = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return 0.0
    if at.tzinfo is None:
        at = at.replace(tzinfo=datetime.UTC)
    return min(max(at.timestamp() - now, 0.0), GIVEN_UP_SECONDS)
