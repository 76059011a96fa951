"""Rows become values by the names of their columns."""

from typing import NamedTuple

import attrs
import pytest

from boxsched.store.mapping import mapper


@attrs.frozen
class Point:
    x: int
    label: str
    is_lit: bool = False
    parts: tuple[int, ...] = ()


class Pair(NamedTuple):
    first: int
    second: int


def test_columns_are_mapped_by_name_not_by_position() -> None:
    of = mapper(Point, ("label", "is_lit", "x"), is_lit=bool)
    assert of(("a", 1, 7)) == Point(7, "a", is_lit=True)


def test_a_mapping_is_looked_up_and_a_function_is_called() -> None:
    of = mapper(Pair, ("second", "first"), first=str.upper, second={"one": 1})
    assert of(("one", "a")) == ("A", 1)


def test_a_field_may_be_passed_in_addition_to_the_row() -> None:
    of = mapper(Point, ("x", "label"), given=("parts",))
    assert of((1, "a"), (2, 3)) == Point(1, "a", parts=(2, 3))


def test_a_column_may_have_another_name_or_no_field() -> None:
    of = mapper(
        Pair, ("id", "one", "two"), unused=("id",), columns_of={"first": "one", "second": "two"}
    )
    assert of((9, 1, 2)) == (1, 2)


def test_a_row_of_another_length_is_refused() -> None:
    of = mapper(Pair, ("first", "second"))
    with pytest.raises(ValueError, match="unpack"):
        of((1, 2, 3))


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ((("x",),), {}, "fields without a column: label"),
        ((("x", "label", "more"),), {}, "columns without a field: more"),
        ((("x", "label"), ("label", "x")), {}, "return different columns"),
        ((("x", "label"),), {"unused": ("other",)}, "columns that are not there: other"),
        ((("x", "label"),), {"given": ("other",)}, "fields that are not there: other"),
        ((("x", "label"),), {"columns_of": {"other": "x"}}, "fields that are not there: other"),
        ((("x", "label"),), {"is_lit": bool}, "converters of fields without a column: is_lit"),
    ],
)
def test_different_names_are_refused_when_the_mapper_is_made(
    columns: tuple[tuple[str, ...], ...], options: dict[str, object], message: str
) -> None:
    with pytest.raises(TypeError, match=message):
        mapper(Point, *columns, **options)  # type: ignore[arg-type]
