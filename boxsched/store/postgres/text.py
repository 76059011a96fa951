"""Make the text of statements for PostgreSQL: several in one text, with literal values.

aiopg only sends texts. psycopg2 needs 1.2 to 3 us to convert a value, this module 0.2 to 0.5, and a
batch has thousands. These rules must hold, and a test checks them. Quotes in a text are doubled,
which is sufficient, because every session sets ``standard_conforming_strings`` (a backslash is an
ordinary character) and uses UTF-8. A value is inserted only once, so nothing in it is taken for a
placeholder. Unknown types are refused.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from boxsched.model import Cancellation, Kind, Policy
from boxsched.states import JobState, Result, State, StopCause
from boxsched.store.blocks import Block, Call


def _text(value: str) -> str:
    if "\0" in value:
        raise ValueError("it contains a NUL character")
    return "'" + value.replace("'", "''") + "'"


def _bytes(value: bytes) -> str:
    return f"'\\x{value.hex()}'::bytea"


def _int(value: int) -> str:
    # In parentheses, because two minus signs in a row would begin a comment.
    return f"({value})" if value < 0 else int.__repr__(value)


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"not a number: {value}")
    return f"({value!r})" if value < 0 else float.__repr__(value)


def _bool(value: bool) -> str:
    return "TRUE" if value else "FALSE"


_WRITTEN: Mapping[type, Callable[[Any], str]] = {
    int: _int,
    float: _float,
    str: _text,
    bool: _bool,
    bytes: _bytes,
    type(None): lambda _: "NULL",
    **{
        words: {word: f"'{word.value}'" for word in words}.__getitem__
        for words in (State, JobState, Result, StopCause, Kind, Cancellation, Policy)
    },
}


def literals(values: Sequence[object]) -> tuple[str, ...]:
    """Return the values as SQL literals. Raises ValueError for a value that PostgreSQL cannot
    store.
    """
    return tuple([_WRITTEN[type(value)](value) for value in values])


class Text:
    """The statements to send next. ``add`` those that need no answer before the next one."""

    def __init__(self, first: str = "") -> None:
        self._statements = [first] if first else []

    def __len__(self) -> int:
        return len(self._statements)

    def __str__(self) -> str:
        return ";\n".join(self._statements)

    def say(self, statement: str) -> None:
        """Add a statement without values."""
        self._statements.append(statement)

    def add(self, call: Call) -> None:
        """Add a statement; if the block takes rows and there are none, do nothing."""
        block, values, rows = call
        head, one, tail = _pieces(block)
        if rows is None:
            self._statements.append(head % literals(values))
        elif rows:
            tuples = ", ".join([one % literals(row) for row in rows])
            self._statements.append(f"{head}{tuples}{tail % literals(values)}")


@functools.cache
def _pieces(block: Block) -> tuple[str, str, str]:
    """Return the parts of a statement: before its tuple of one row, the tuple, and after it."""
    text = block.written("\0", 1).replace("%", "%%").replace("\0", "%s")
    if not block.row_names:
        return text, "", ""
    start = text.index("VALUES (") + len("VALUES ")
    end = text.index(")", start) + 1
    return text[:start] % (), text[start:end], text[end:]
