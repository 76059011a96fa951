"""The 404 answer, which names what was not found."""

from boxsched.errors import NotFound

_MAX_CHARACTERS = 80


def no_such(what: str, asked: str, field: str | None = None, hint: str = "") -> NotFound:
    """Return the error ``there is no project 'web'``.

    The name is shortened and escaped to ASCII.
    """
    shown = asked if len(asked) <= _MAX_CHARACTERS else asked[:_MAX_CHARACTERS] + "..."
    return NotFound(f"there is no {what} {shown!a}{hint}", field)
