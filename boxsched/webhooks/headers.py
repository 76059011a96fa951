"""Read a request's headers, from any mapping, also one with duplicate names."""

from collections.abc import Mapping

Headers = Mapping[str, str]


def one(headers: Headers, name: str) -> str | None:
    """Return a header's value; its name is not case-sensitive. None if it is missing, empty or
    duplicate.

    With duplicate headers, a proxy may use the first and the program behind it the last.
    """
    wanted = name.lower()
    values = [value for key, value in headers.items() if key.lower() == wanted]
    return values[0] if len(values) == 1 and values[0] else None
