"""Read JSON written by people: every mistake is refused with its place."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import NoReturn, TypeVar

from boxsched.errors import Invalid
from boxsched.nearest import unknown
from boxsched.texts import encodable

T = TypeVar("T")
D = TypeVar("D")
E = TypeVar("E", bound=StrEnum)

# A reader converts the JSON value at a place, or raises BadInput.
Reader = Callable[[object, str], T]

# Far beyond any real time or duration; sums of these still are finite doubles.
MAX_SECONDS = 1e290

_SHOWN_CHARACTERS = 60
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")


class BadInput(Invalid):
    """The simulator's input is wrong at the named place: correct it there."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message, field=place)
        self.place = place

    def __str__(self) -> str:
        return f"{self.place}: {self.message}"


class JsonObject(dict[str, object]):
    """A parsed object. ``repeated``: the first duplicate key, or None."""

    repeated: str | None = None


def parse_json(data: bytes) -> object:
    """Parse strict JSON: UTF-8, no NaN, no duplicate keys (``Fields`` refuses them), limited
    nesting.
    """
    try:
        return json.loads(
            data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant
        )
    except UnicodeDecodeError as error:
        raise BadInput(f"byte {error.start}", "this is not UTF-8") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise BadInput(place, f"this is not JSON: {error.msg}") from None
    except RecursionError:
        raise BadInput("scenario", "is nested too deeply") from None
    except ValueError:  # Python does not read integers with thousands of digits
        raise BadInput("scenario", "contains a number with too many digits") from None


def _object(pairs: list[tuple[str, object]]) -> JsonObject:
    parsed = JsonObject(pairs)
    if len(parsed) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        parsed.repeated = next(key for key, count in counts.items() if count > 1)
    return parsed


def _no_constant(text: str) -> NoReturn:
    raise BadInput("scenario", f"{text} is not a JSON number")


def shown(value: object) -> str:
    """Return any value as one short line of ASCII."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def inside(place: str, name: str) -> str:
    """Return the place of an object's field."""
    plain = name if _PLAIN_NAME.fullmatch(name) else shown(name)
    return f"{place}.{plain}" if place else plain


class Fields:
    """A JSON object, read field by field; ``done`` refuses the fields that were not read."""

    def __init__(self, value: object, place: str) -> None:
        if not isinstance(value, JsonObject):
            raise BadInput(place or "scenario", f"must be an object, not {shown(value)}")
        if value.repeated is not None:
            raise BadInput(inside(place, value.repeated), "is given twice")
        self._left = dict(value)
        self._known: dict[str, None] = {}  # the names that were requested, in order
        self.place = place

    def has(self, name: str) -> bool:
        self._known[name] = None
        return name in self._left

    def take(self, name: str, read: Reader[T]) -> T:
        self._known[name] = None
        if name not in self._left:
            raise BadInput(inside(self.place, name), "is missing")
        return read(self._left.pop(name), inside(self.place, name))

    def take_or(self, name: str, read: Reader[T], default: D) -> T | D:
        return self.take(name, read) if self.has(name) else default

    def names(self) -> list[str]:
        """Return the names of the fields that were not read yet, in order."""
        return list(self._left)

    def done(self) -> None:
        for name in self._left:
            raise BadInput(
                inside(self.place, name), unknown("is an unknown field", name, self._known)
            )


# --- Readers --------------------------------------------------------------------------------


def time(value: object, place: str) -> float:
    """Return a finite number; booleans are refused."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadInput(place, f"must be a number, not {shown(value)}")
    if not -MAX_SECONDS <= value <= MAX_SECONDS:  # also false for infinity and NaN
        raise BadInput(place, "is too large")
    return float(value)


def seconds(value: object, place: str) -> float:
    duration = time(value, place)
    if duration < 0:
        raise BadInput(place, f"must not be negative, but is {shown(value)}")
    return math.fabs(duration)  # -0.0 is 0.0


def positive_seconds(value: object, place: str) -> float:
    duration = time(value, place)
    if duration <= 0:
        raise BadInput(place, f"must be more than 0, but is {shown(value)}")
    return duration


def anything(value: object, place: str) -> object:
    """Return the value unchanged, for a field that is read later."""
    return value


def whole(least: int, most: int) -> Reader[int]:
    def read(value: object, place: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadInput(place, f"must be a whole number, not {shown(value)}")
        if not least <= value <= most:
            raise BadInput(place, f"must be {least} to {most}")
        return value

    return read


def flag(value: object, place: str) -> bool:
    if not isinstance(value, bool):
        raise BadInput(place, f"must be true or false, not {shown(value)}")
    return value


def name(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise BadInput(place, f"must be a string, not {shown(value)}")
    if not value:
        raise BadInput(place, "must not be empty")
    if not encodable(value):
        raise BadInput(
            place, f"{shown(value)} is not valid text: it contains half a surrogate pair"
        )
    return value


def one_of(choices: type[E]) -> Reader[E]:
    def read(value: object, place: str) -> E:
        for choice in choices:
            if choice.value == value:
                return choice
        known = ", ".join(choices)
        raise BadInput(place, f"must be one of {known}, not {shown(value)}")

    return read


def nullable(read: Reader[T]) -> Reader[T | None]:
    return lambda value, place: None if value is None else read(value, place)


def list_of(read: Reader[T]) -> Reader[list[T]]:
    def read_all(value: object, place: str) -> list[T]:
        if not isinstance(value, list):
            raise BadInput(place, f"must be a list, not {shown(value)}")
        return [read(item, f"{place}[{i}]") for i, item in enumerate(value)]

    return read_all
