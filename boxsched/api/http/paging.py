"""Pages of lists whose rows have ascending numbers, latest first: ``limit`` and ``cursor``."""

import base64
import binascii

from boxsched.errors import Invalid

BEHIND_ALL = 1 << 62  # no number is as great
MAX_DIGITS = 18


def number(text: str) -> int | None:
    """None for what cannot be one."""
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
    """What asks for the rows behind that one, of the list of that name."""
    return base64.urlsafe_b64encode(f"{name} {last}".encode()).decode()


def before(name: str, text: str | None) -> int:
    """The number that the rows of a page are lower than."""
    if text is None:
        return BEHIND_ALL
    try:
        said = base64.b64decode(text, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        said = ""
    list_name, _, row = said.partition(" ")
    last = number(row) if list_name == name else None
    if last is None:
        raise Invalid("this is not a cursor of this list: take next_cursor as it is", "cursor")
    return last
