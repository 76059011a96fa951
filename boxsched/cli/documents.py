"""A document read from a file: its value, and the line and column of each part."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import attrs

from boxsched.texts import encodable

MAX_BYTES = 4 << 20  # size of a file
SHOWN_CHARACTERS = 60

Step: TypeAlias = str | int  # a key of an object, an index of a list
Place: TypeAlias = tuple[int, int]  # line and column, both from 1


class Wrong(ValueError):
    """The message says what is wrong with a file, for a person."""


@attrs.frozen
class Document:
    """A document. ``find`` returns the place of the part at these steps, or else of the part around
    it.
    """

    value: object
    find: Callable[[Sequence[Step]], Place]

    def at(self, steps: Sequence[Step]) -> str:
        """Return ``line 3, column 10: `` for a part, to begin a message with."""
        line, column = self.find(steps)
        return f"line {line}, column {column}: "


def check_size(data: bytes) -> None:
    if len(data) > MAX_BYTES:
        raise Wrong(f"it has {len(data)} bytes; at most {MAX_BYTES} are read")


def repeated(names: Iterable[str]) -> str | None:
    """Return the first duplicate name, or None."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def steps_of(value: object, field: str) -> list[Step]:
    """Return the steps to a field in a service's message: ``servers.eu.prod.jobs[0].commands``.

    Keys may contain dots and brackets, so the field is compared with the keys of the value. The
    last step may be a missing key.
    """
    steps: list[Step] = []
    rest = field
    while rest:
        step, rest = _step(value, rest)
        steps.append(step)
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and step < len(value) else None
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return steps


def _step(value: object, field: str) -> tuple[Step, str]:
    """Return the first step of a field, and the rest."""
    if field.startswith("["):
        index, _, rest = field[1:].partition("]")
        if index.isdecimal() and len(index) < 10:
            return int(index), rest.removeprefix(".")
    keys = value if isinstance(value, Mapping) else ()
    fitting = [
        key for key in keys if field.startswith(key) and field[len(key) : len(key) + 1] in "[."
    ]
    key = max(fitting, key=len, default=field)
    return key, field[len(key) :].removeprefix(".")


def check_values(document: Document) -> None:
    """Raise Wrong for a value that a request cannot contain, such as a key that is a number."""
    left: list[tuple[tuple[Step, ...], object]] = [((), document.value)]
    while left:
        steps, one = left.pop()
        if isinstance(one, dict):
            for key in one:
                if not isinstance(key, str):
                    raise Wrong(
                        f"{document.at(steps)}{written(steps)}the key {key!a} must be a string: "
                        "write it in quotes"
                    )
                _check_text(document, key, steps)
            left += [((*steps, key), each) for key, each in one.items()]
        elif isinstance(one, list):
            left += [((*steps, number), each) for number, each in enumerate(one)]
        elif isinstance(one, str):
            _check_text(document, one, steps)


def _check_text(document: Document, text: str, steps: Sequence[Step]) -> None:
    if not encodable(text):
        shown = f"{text[:SHOWN_CHARACTERS]!a}"
        raise Wrong(
            f"{document.at(steps)}{written(steps)}{shown} is not valid text: "
            "it contains half a surrogate pair"
        )


def written(steps: Sequence[Step]) -> str:
    """Return the steps as ``jobs[0].name: ``, to begin a message with."""
    text = ""
    for step in steps:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{step[:SHOWN_CHARACTERS]}" if text else step[:SHOWN_CHARACTERS]
    return f"{text}: " if text else ""
