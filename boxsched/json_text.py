"""Checks of a JSON text from outside, before its values are read."""

import json

import msgspec

from boxsched.errors import Malformed

MAX_KEY_CHARACTERS = 200


def check_keys(body: bytes) -> None:
    """Raise Malformed if an object has a duplicate key: one of its values would be lost. A text
    that is not JSON is ignored here.
    """
    if body.count(b":") < 2:
        return
    try:
        json.loads(body, object_pairs_hook=_distinct, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return


def check_top_keys(body: bytes) -> None:
    """Like ``check_keys``, for the outermost object only."""
    try:
        keys = json.loads(body, object_pairs_hook=_keys, parse_int=len, parse_float=len)
    except (ValueError, RecursionError):
        return
    if isinstance(keys, _Keys):
        _distinct([(key, None) for key in keys])


class _Keys(list[str]):
    """The keys of an object, in order."""


def _keys(pairs: list[tuple[str, object]]) -> _Keys:
    return _Keys([key for key, _ in pairs])


def check_form(body: bytes) -> None:
    """Raise Malformed if the text is not JSON, or is nested too deeply."""
    try:
        msgspec.json.decode(body)
    except msgspec.ValidationError:
        return  # it is JSON, with a number that is too large for a double
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(error) from None


def _distinct(pairs: list[tuple[str, object]]) -> None:
    if len({key for key, _ in pairs}) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Malformed("an object has a duplicate key", key[:MAX_KEY_CHARACTERS])
            seen.add(key)


def malformed(error: Exception) -> Malformed:
    """Return the error for a text that msgspec could not read. ``error``: msgspec's error."""
    if isinstance(error, UnicodeDecodeError):
        return Malformed("the body is not UTF-8")
    if isinstance(error, RecursionError):
        return Malformed("the body is nested too deeply")
    return Malformed(f"the body is not JSON: {error}")
