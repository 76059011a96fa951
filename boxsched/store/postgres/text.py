"""Statements as PostgreSQL gets them: several in one text, with their values written out.

aiopg sends texts only, whoever writes the values into them; psycopg2 takes 1.2 to 3 us for each,
this 0.2 to 0.5, and a batch has thousands. What has to hold, and a test tries: a text's quotes are
doubled, which is all there is to it, as every session sets ``standard_conforming_strings`` (a
backslash is a letter like others) and speaks UTF-8; a value is written once, so that nothing in it
is read as a place for another; a type that is not known here is not written at all.
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
        raise ValueError("there is a NUL character in it")
    return "'" + value.replace("'", "''") + "'"


def _bytes(value: bytes) -> str:
    return f"'\\x{value.hex()}'::bytea"


def _int(value: int) -> str:
    # In parentheses where a sign could meet another: two are a comment.
    return f"({value})" if value < 0 else int.__repr__(value)


def _float(value: float) -> str:
    if not math.isfinite(value):
        raise ValueError(f"a number that is none: {value}")
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
    """The values as SQL; raises ValueError for one that PostgreSQL cannot hold."""
    return tuple([_WRITTEN[type(value)](value) for value in values])


class Text:
    """The statements to send next; ``add`` those that need no answer before the next one."""

    def __init__(self, first: str = "") -> None:
        self._statements = [first] if first else []

    def __len__(self) -> int:
        return len(self._statements)

    def __str__(self) -> str:
        return ";\n".join(self._statements)

    def say(self, statement: str) -> None:
        """A statement without values."""
        self._statements.append(statement)

    def add(self, call: Call) -> None:
        """No rows where the block takes some: nothing to do."""
        block, values, rows = call
        head, one, tail = _pieces(block)
        if rows is None:
            self._statements.append(head % literals(values))
        elif rows:
            tuples = ", ".join([one % literals(row) for row in rows])
            self._statements.append(f"{head}{tuples}{tail % literals(values)}")


@functools.cache
def _pieces(block: Block) -> tuple[str, str, str]:
    """A statement before its tuple of one row, that tuple, and what follows it."""
    text = block.written("\0", 1).replace("%", "%%").replace("\0", "%s")
    if not block.row_names:
        return text, "", ""
    start = text.index("VALUES (") + len("VALUES ")
    end = text.index(")", start) + 1
    return text[:start] % (), text[start:end], text[end:]
