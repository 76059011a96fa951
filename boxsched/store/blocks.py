"""Named SQL blocks: loaded once from ``sql/*.sql``, called with named parameters.

A block consists of ``-- name: foo``, a comment with its purpose, ``-- returns:`` with the columns
of its rows in order, or ``nothing``, and one statement. The statement uses PostgreSQL's syntax;
``:name`` is a parameter.

* ``-- returns: id, jobs[id, name]``: the column ``jobs`` is a JSON text, a list of such rows.
* ``-- returns: as foo``: the columns of the block ``foo`` of the same file.
* ``-- template: foo`` begins a text that is no block: it has one ``{}``. ``-- like: foo`` in place
  of ``-- returns:`` puts the block's text there, and takes the template's columns.
* A block that begins with ``WITH v(`` takes any number of rows: the driver repeats its one
  ``VALUES`` tuple, and may add rows whose first column is NULL (so that few texts need to be
  prepared); the statement must leave such rows out.
"""

import functools
import importlib.resources
import operator
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import attrs

Row = tuple[Any, ...]
T = TypeVar("T")

_HEAD = re.compile(r"^-- (name|template): (\w+)\n", re.M)
_PURPOSE = re.compile(r"(?:-- (?!returns: |like: ).*\n)+")
_DECLARED = re.compile(r"-- (returns|like): (.*\n(?:-- .*\n)*)")
_COLUMN = re.compile(r"(\w+)(?:\[([\w, ]+)\])?")
_PARAMETER = re.compile(r"'[^']*'|(?<!:):([a-z_]\w*)")
_TUPLE = re.compile(r"(?<=VALUES )\([^()]*\)")


class Call(NamedTuple):
    """A statement to run, with the parameters' values in the order of the block's names.

    ``rows`` is None if the block takes no rows; an empty list means that there is nothing to do.
    """

    block: "Block"
    values: Sequence[object]
    rows: Sequence[Row] | None


# A procedure of ``steps``: it yields statements, receives their rows, and returns a value.
Steps = Generator[Call, list[Row], T]


@attrs.frozen(eq=False)
class Block:
    """One named statement.

    ``names``: its parameters. ``row_names``: those of a row that it takes. ``returns``: the columns
    of its result; if there are none, nothing has to wait for its answer. ``inner``: the columns
    inside a JSON column.
    """

    name: str
    purpose: str
    text: str
    names: tuple[str, ...]
    row_names: tuple[str, ...]
    returns: tuple[str, ...]
    inner: Mapping[str, tuple[str, ...]] = {}

    def column(self, name: str) -> Callable[[Row], Any]:
        """Return a function that gets this column of a row. Raises ValueError if the block has no
        such column.
        """
        return operator.itemgetter(self.returns.index(name))

    def __call__(self, **values: object) -> Call:
        return Call(self, self._ordered(values), None)

    def rows(self, rows: Sequence[Row], **values: object) -> Call:
        """Return the statement for rows, in the order of the block's tuple."""
        return Call(self, self._ordered(values), rows)

    def _ordered(self, values: Mapping[str, object]) -> Sequence[object]:
        return [values[name] for name in self.names]

    def written(self, placeholder: str, rows: int) -> str:
        """Return the statement with a driver's placeholders and one tuple for each row."""
        text = self.text
        if self.row_names:
            text = _TUPLE.sub(lambda found: ", ".join([found.group()] * rows), text, count=1)
        return _PARAMETER.sub(lambda found: placeholder if found[1] else found[0], text)


def parsed(name: str, body: str, others: Mapping[str, "Block"] | None = None) -> Block:
    """Parse a block without its first line. Raises ValueError if a part is missing.

    ``others``: the blocks and templates that it may refer to.
    """
    purpose = _PURPOSE.match(body)
    if purpose is None:
        raise ValueError(f"SQL block {name} does not say what it is for")
    declared = _DECLARED.match(body, purpose.end())
    if declared is None:
        raise ValueError(f"SQL block {name} does not say what it returns")
    word, said = declared[1], declared[2].replace("\n-- ", " ").strip()
    text = body[declared.end() :].strip().rstrip(";")
    if word == "like":
        model = (others or {})[said]
        text, returns, inner = model.text.replace("{}", text), model.returns, model.inner
    else:
        returns, inner = _columns(said, others or {})
    names = tuple(found[1] for found in _PARAMETER.finditer(text) if found[1])
    row_names: tuple[str, ...] = ()
    if text.startswith("WITH v("):
        found = _TUPLE.search(text)
        if found is None:
            raise ValueError(f"SQL block {name} takes rows, but has no VALUES tuple")
        row_names = tuple(each[1] for each in _PARAMETER.finditer(found.group()))
        names = names[len(row_names) :]  # the tuple comes first
    said_for = purpose.group().replace("-- ", "").strip()
    return Block(name, said_for, text, names, row_names, returns, inner)


def _columns(
    said: str, others: Mapping[str, Block]
) -> tuple[tuple[str, ...], Mapping[str, tuple[str, ...]]]:
    """Return the declared columns, and those inside JSON columns."""
    if said == "nothing":
        return (), {}
    if said.startswith("as "):
        model = others[said.removeprefix("as ")]
        return model.returns, model.inner
    found = [(each[1], each[2]) for each in _COLUMN.finditer(said)]
    inner = {name: tuple(columns.split(", ")) for name, columns in found if columns}
    return tuple(name for name, _ in found), inner


def sql_text(file: str) -> str:
    """Return the text of a file in ``sql/``."""
    return (importlib.resources.files(__package__) / "sql" / file).read_text("utf-8")


@functools.cache
def load(file: str) -> Mapping[str, Block]:
    """Return the blocks of a file in ``sql/``, by name, in the file's order."""
    _, *pieces = _HEAD.split(sql_text(file))
    known: dict[str, Block] = {}
    templates = set()
    for kind, name, body in zip(pieces[::3], pieces[1::3], pieces[2::3], strict=True):
        known[name] = parsed(name, body, known)
        if kind == "template":
            templates.add(name)
    return {name: block for name, block in known.items() if name not in templates}
