"""The 404 answer, which names what was not found."""

from boxsched.errors import NotFound

_MAX_CHARACTERS = 80


def no(what: str, asked: str, field: str | None = None, hint: str = "") -> NotFound:
    """``there is no project 'web'``. The name comes from outside: it is cut, and in ASCII."""
    shown = asked if len(asked) <= _MAX_CHARACTERS else asked[:_MAX_CHARACTERS] + "..."
    return NotFound(f"there is no {what} {shown!a}{hint}", field)
