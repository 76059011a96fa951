"""Pages of lists whose rows have ascending numbers, latest first: ``limit`` and ``cursor``."""

import base64
import binascii

from boxsched.errors import Invalid

ABOVE_ALL = 1 << 62  # greater than every number
MAX_DIGITS = 18


def number(text: str) -> int | None:
    """Return the number; None if the text is not one."""
    fits = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    return int(text) if fits else None


def limit(text: str | None, default: int, at_most: int) -> int:
    if text is None:
        return default
    asked = number(text)
    if asked is None or not 1 <= asked <= at_most:
        raise Invalid(f"must be a number from 1 to {at_most}", "limit")
    return asked


def cursor(name: str, last: int) -> str:
    """Return the cursor of the page after this row. ``name``: the list's name."""
    return base64.urlsafe_b64encode(f"{name} {last}".encode()).decode()


def before(name: str, text: str | None) -> int:
    """Return the cursor's number: the rows of the page have lower numbers. Raises Invalid."""
    if text is None:
        return ABOVE_ALL
    try:
        said = base64.b64decode(text, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        said = ""
    list_name, _, row = said.partition(" ")
    last = number(row) if list_name == name else None
    if last is None:
        raise Invalid(
            "must be next_cursor of the previous page, unchanged",
            "cursor",
        )
    return last
