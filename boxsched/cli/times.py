"""Times that users give on the command line."""

from datetime import timedelta

from boxsched.cli.clean import plain
from boxsched.cli.failing import InvalidInput

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def given_duration(option: str, text: str) -> timedelta:
    """Read 45s, 30m, 2h or 3d. Raises InvalidInput, which names the option."""
    unit, digits = _UNITS.get(text[-1:]), text[:-1]
    if unit is None or not (digits.isascii() and digits.isdigit() and 0 < len(digits) < 7):
        raise InvalidInput(f"{option} {plain(text)}: must be a time such as 45s, 30m, 2h or 3d")
    return timedelta(seconds=int(digits) * unit)
