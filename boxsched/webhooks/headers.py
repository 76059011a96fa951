"""The headers of a request: any mapping will do, also one that has a name several times."""

from collections.abc import Mapping

Headers = Mapping[str, str]


def one(headers: Headers, name: str) -> str | None:
    """The value of a header, in any case; None where it is absent, empty or given several times.

    A proxy may look at the first of several and the program behind it at the last.
    """
    wanted = name.lower()
    values = [value for key, value in headers.items() if key.lower() == wanted]
    return values[0] if len(values) == 1 and values[0] else None
