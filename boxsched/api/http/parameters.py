"""Check the parameters of a URL's query: each must be known and occur once."""

from collections.abc import Collection, Mapping
from urllib.parse import unquote, unquote_to_bytes

from multidict import MultiMapping

from boxsched.errors import Invalid
from boxsched.model import MAX_NAME_CHARACTERS
from boxsched.nearest import unknown

YES_OR_NO: Mapping[str, bool] = {"0": False, "false": False, "1": True, "true": True}


def yes_or_no(given: MultiMapping[str], name: str) -> bool:
    """Return the value of a parameter that is 1 or 0; false without it. Raises Invalid."""
    value = YES_OR_NO.get(given.get(name, "0"))
    if value is None:
        raise Invalid("must be 1 or 0", name)
    return value


def check_parameters(given: MultiMapping[str], known: Collection[str], raw: str = "") -> None:
    """Raise Invalid for an unknown or repeated parameter, and for a query that is not UTF-8.

    ``raw``: the query as it was sent; ``given`` has replacements for bytes that are not UTF-8.
    """
    if "%" in raw:
        _check_encoding(raw)
    for name in given:
        field = name.encode("utf-8", "backslashreplace").decode()[:MAX_NAME_CHARACTERS]
        if name not in known:
            raise Invalid(unknown("unknown query parameter", name, sorted(known)), field)
        if len(given.getall(name)) > 1:
            raise Invalid("must be given once", field)


def _check_encoding(raw: str) -> None:
    for part in raw.split("&"):
        name, _, value = part.partition("=")
        try:
            unquote_to_bytes(name).decode()
            unquote_to_bytes(value).decode()
        except UnicodeDecodeError:
            field = unquote(name, errors="backslashreplace")[:MAX_NAME_CHARACTERS]
            raise Invalid("must be valid UTF-8", field) from None
