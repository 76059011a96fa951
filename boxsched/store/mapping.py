"""Convert rows to values by name, with one function for each block and class, made at import.

The block declares its columns (``blocks``), the class has its fields. If they differ, the import
fails. No code reads columns by position.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")

# A mapping is used for look-ups, which is ten times faster than calling an enum; anything else is
# called.
Converter = Callable[[Any], Any] | Mapping[Any, Any]


def mapper(
    made: Callable[..., T],
    *columns: Sequence[str],
    given: Collection[str] = (),
    unused: Collection[str] = (),
    columns_of: Mapping[str, str] | None = None,
    **converters: Converter,
) -> Callable[..., T]:
    """Return a function that makes a ``made`` from a row and from the ``given`` fields, in their
    order.

    ``columns``: the declarations of one or more blocks, which must be equal. A field's column has
    its name, or the one in ``columns_of``. ``unused``: columns without a field. ``converters``: by
    field. Raises TypeError if names differ.
    """
    first, *others = columns
    name = getattr(made, "__name__", str(made))
    if any(tuple(other) != tuple(first) for other in others):
        raise TypeError(f"{name}: the blocks return different columns")
    fields = inspect.signature(made).parameters
    sources = {field: (columns_of or {}).get(field, field) for field in fields}
    taken = {field for field in fields if sources[field] in first and field not in given}
    _refuse("columns without a field", {*first} - {sources[f] for f in taken} - {*unused}, name)
    _refuse("columns that are not there", {*unused} - {*first}, name)
    _refuse("fields that are not there", {*given, *(columns_of or {})} - {*fields}, name)
    _refuse("converters of fields without a column", {*converters} - taken, name)
    needed = {field for field, one in fields.items() if one.default is one.empty}
    _refuse("fields without a column", needed - {*taken, *given}, name)
    values = {
        field: f"given_{field}" if field in given else f"row_{sources[field]}"
        for field in fields
        if field in taken or field in given
    }
    for field, converter in converters.items():
        left, right = "[]" if isinstance(converter, Mapping) else "()"
        values[field] = f"convert_{field}{left}{values[field]}{right}"
    in_order = (
        tuple(values) == tuple(fields)[: len(values)]
    )  # so no name is needed; names cost more
    arguments = values.values() if in_order else (f"{f}={value}" for f, value in values.items())
    parameters = ["row", *(f"given_{field}" for field in given)]
    scope = {"made": made} | {f"convert_{field}": one for field, one in converters.items()}
    return _compiled(first, parameters, arguments, scope)


def _refuse(what: str, names: Collection[str], made: str) -> None:
    if names:
        raise TypeError(f"{made}: {what}: {', '.join(sorted(names))}")


def _compiled(
    columns: Iterable[str],
    parameters: Iterable[str],
    arguments: Iterable[str],
    scope: dict[str, Any],
) -> Callable[..., Any]:
    """Compile the function from text, as dataclasses do, because a loop over the fields takes twice
    as long.
    """
    unpacked = ", ".join(f"row_{column}" for column in columns)
    text = (
        f"def value({', '.join(parameters)}):\n"
        f"    [{unpacked}] = row\n"
        f"    return made({', '.join(arguments)})\n"
    )
    exec(text, scope)  # noqa: S102  # of names that are fields and declared columns
    function: Callable[..., Any] = scope["value"]
    return function
