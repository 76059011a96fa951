"""SQL as named blocks: loaded once from ``sql/*.sql``, called with parameters by name.

A block is ``-- name: foo``, a comment that says what it is for, and one statement, in PostgreSQL's
words as far as SQLite has the same; ``:name`` is a parameter. A block that begins with ``WITH v(``
takes any number of rows: the driver repeats its one ``VALUES`` tuple, and may add rows of which the
first column is NULL (so that few texts need to be prepared); the statement must let those out.
"""

import functools
import importlib.resources
import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import attrs

Row = tuple[Any, ...]
T = TypeVar("T")

_HEAD = re.compile(r"^-- name: (\w+)\n", re.M)
_PURPOSE = re.compile(r"(?:--.*\n)+")
_PARAMETER = re.compile(r"'[^']*'|(?<!:):([a-z_]\w*)")
_TUPLE = re.compile(r"(?<=VALUES )\([^()]*\)")
_ANSWERS = re.compile(
    r"(?:WITH v\([^()]*\) AS \(VALUES \([^()]*\)\)\s*)?SELECT|.*\nRETURNING ", re.S
)


class Call(NamedTuple):
    """A statement to be run: the parameters' values in the order of the block's names.

    ``rows`` is None where the block takes none; no row at all means nothing to do.
    """

    block: "Block"
    values: Sequence[object]
    rows: Sequence[Row] | None


# What a procedure of ``steps`` is: it yields statements, gets their rows, and returns a value.
Steps = Generator[Call, list[Row], T]


@attrs.frozen(eq=False, slots=False)
class Block:
    """One named statement. ``row_names`` are the columns of a row, ``names`` the other ones."""

    name: str
    purpose: str
    text: str
    names: tuple[str, ...]
    row_names: tuple[str, ...]

    @functools.cached_property
    def answers(self) -> bool:
        """Whether it gives rows: one that gives none need not be waited for."""
        return _ANSWERS.match(self.text) is not None

    def __call__(self, **values: object) -> Call:
        return Call(self, self._ordered(values), None)

    def rows(self, rows: Sequence[Row], **values: object) -> Call:
        """The statement for rows in the order of the block's tuple."""
        return Call(self, self._ordered(values), rows)

    def _ordered(self, values: Mapping[str, object]) -> Sequence[object]:
        return [values[name] for name in self.names]

    def written(self, placeholder: str, rows: int) -> str:
        """The statement with a driver's placeholder, its tuple repeated for so many rows."""
        text = self.text
        if self.row_names:
            text = _TUPLE.sub(lambda found: ", ".join([found.group()] * rows), text, count=1)
        return _PARAMETER.sub(lambda found: placeholder if found[1] else found[0], text)


def _parsed(name: str, body: str) -> Block:
    purpose = _PURPOSE.match(body)
    if purpose is None:
        raise ValueError(f"SQL block {name} does not say what it is for")
    text = body[purpose.end() :].strip().rstrip(";")
    names = tuple(found[1] for found in _PARAMETER.finditer(text) if found[1])
    row_names: tuple[str, ...] = ()
    if text.startswith("WITH v("):
        found = _TUPLE.search(text)
        if found is None:
            raise ValueError(f"SQL block {name} takes rows, but has no VALUES tuple")
        row_names = tuple(each[1] for each in _PARAMETER.finditer(found.group()))
        names = names[len(row_names) :]  # the tuple stands first
    return Block(name, purpose.group().replace("-- ", "").strip(), text, names, row_names)


def sql_text(file: str) -> str:
    """A file of ``sql/``, whole."""
    return (importlib.resources.files(__package__) / "sql" / file).read_text("utf-8")


@functools.cache
def load(file: str) -> Mapping[str, Block]:
    """The blocks of a file of ``sql/``, by name, in the file's order."""
    _, *pieces = _HEAD.split(sql_text(file))
    return {name: _parsed(name, body) for name, body in zip(pieces[::2], pieces[1::2], strict=True)}
