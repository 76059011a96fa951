"""Read one JSON document within limits, and find the places of its parts."""

import json
import math
import re
from collections.abc import Sequence
from typing import Any

from boxsched.cli.documents import (
    SHOWN_CHARACTERS,
    Document,
    Place,
    Step,
    Wrong,
    check_size,
    repeated,
)

MAX_DIGITS = 18  # limit of an integer's length, with its sign

_SPACE = re.compile(r"[ \t\n\r]*")
# The tokens of a JSON text, except white space, true, false and null.
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|-?Infinity|NaN|-?[0-9][0-9.eE+-]*')
_skipping = json.JSONDecoder()


def document(data: bytes) -> Document:
    """Return the document. Raises Wrong if it is not valid JSON within the limits."""
    check_size(data)
    try:
        text = data.decode(json.detect_encoding(data))
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_no_constant,
            parse_float=number,
            parse_int=whole,
        )
    except RecursionError:
        raise Wrong("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Wrong(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError:
        raise Wrong("it is not UTF-8") from None
    except Wrong as wrong:
        raise _placed(text) or wrong from None
    return Document(value, lambda steps: _find(text, steps))


def number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise Wrong(f"{text[:SHOWN_CHARACTERS]} is too large a number")
    return value


def whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise Wrong(f"{text[:SHOWN_CHARACTERS]}... is too large a number")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Wrong(f"{repeated(key for key, _ in pairs)!r} occurs twice in one object")
    return found


def _no_constant(word: str) -> None:
    raise Wrong(f"{word} is not JSON")


def _placed(text: str) -> Wrong | None:
    """Return an error about the first invalid key or number, with its place.

    The text is valid JSON at least up to there.
    """
    keys: list[set[str] | None] = []  # the keys of each enclosing object; None for a list
    before = ""
    for token in _TOKEN.finditer(text):
        word = token.group()
        try:
            if word[0] == '"':
                if before in ("{", ",") and keys and (seen := keys[-1]) is not None:
                    _check_key(json.loads(word), seen)
            elif word == "{":
                keys.append(set())
            elif word == "[":
                keys.append(None)
            elif word in "}]":
                keys.pop()
            elif word[0] in "-0123456789NI":
                _check_number(word)
        except Wrong as wrong:
            line, column = _line_and_column(text, token.start())
            return Wrong(f"line {line}, column {column}: {wrong}")
        before = word
    return None


def _check_key(key: str, seen: set[str]) -> None:
    if key in seen:
        raise Wrong(f"{key!r} occurs twice in one object")
    seen.add(key)


def _check_number(word: str) -> None:
    if word[-1].isalpha():
        _no_constant(word)
    elif word.removeprefix("-").isdigit():
        whole(word)
    else:
        number(word)


def _line_and_column(text: str, place: int) -> Place:
    return text.count("\n", 0, place) + 1, place - text.rfind("\n", 0, place)


# --- Places: the text is valid JSON, so the values before a part can be skipped -----------------


def _find(text: str, steps: Sequence[Step]) -> Place:
    place = at = _behind_space(text, 0)
    for step in steps:
        found = _member(text, at, step) if isinstance(step, str) else _entry(text, at, step)
        if found is None:
            break
        place, at = found
    return _line_and_column(text, place)


def _member(text: str, at: int, name: str) -> tuple[int, int] | None:
    """Return the places of an object's key and of its value."""
    while text[at] in "{,":
        key_at = _behind_space(text, at + 1)
        if text[key_at] != '"':
            return None
        key, at = _skipping.raw_decode(text, key_at)
        value_at = _behind_space(text, _behind_space(text, at) + 1)
        if key == name:
            return key_at, value_at
        at = _behind_value(text, value_at)
    return None


def _entry(text: str, at: int, index: int) -> tuple[int, int] | None:
    """Return the place of a list's entry."""
    while text[at] in "[,":
        at = _behind_space(text, at + 1)
        if text[at] == "]":
            return None
        if index == 0:
            return at, at
        index -= 1
        at = _behind_value(text, at)
    return None


def _behind_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _behind_value(text: str, at: int) -> int:
    """Return the place of the comma or bracket after the value that begins here."""
    return _behind_space(text, _skipping.raw_decode(text, at)[1])
