"""The text of the SQL blocks."""

import sqlite3
from importlib.resources import files

import pytest

from boxsched.store.blocks import Block, load, parsed
from boxsched.store.schema import upgrades
from boxsched.store.sqlite.connection import worded

FILES = sorted(
    path.name
    for path in (files("boxsched.store") / "sql").iterdir()
    if not path.name.startswith("schema_") and not path.stem.endswith("postgres")
)
BLOCKS = [block for file in FILES for block in load(file).values()]
OWN = load("sqlite.sql")  # instead of the blocks of the same names


def in_sqlites_words(block: Block, rows: int) -> str:
    return worded(OWN.get(block.name, block).written("?", rows))


@pytest.fixture(scope="module")
def raw() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:")
    for text in upgrades({}, "sqlite"):
        connection.executescript(worded(text))
    return connection


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_has_a_purpose_and_one_statement_that_the_schema_knows(
    block: Block, raw: sqlite3.Connection
) -> None:
    assert block.purpose.endswith(".")
    assert ";" not in block.text
    text = in_sqlites_words(block, 3)
    raw.execute(f"EXPLAIN {text}", [None] * text.count("?"))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.row_names], ids=lambda block: block.name)
def test_a_block_of_rows_without_rows_does_nothing(block: Block, raw: sqlite3.Connection) -> None:
    values = [None] + [0] * (len(block.row_names) - 1) + [1] * len(block.names)
    before = raw.total_changes
    assert raw.execute(in_sqlites_words(block, 1), values).fetchall() in ([], [("[]",)])
    assert raw.total_changes == before


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_a_block_returns_the_columns_that_it_declares(
    block: Block, raw: sqlite3.Connection
) -> None:
    """In order; only the position counts for an unnamed expression."""
    text = in_sqlites_words(block, 1)
    raw.execute("SAVEPOINT before")
    try:
        # A RETURNING clause is described even if no row is found.
        description = raw.execute(text, [1] * text.count("?")).description or ()
    except sqlite3.IntegrityError:  # the row has meaningless values
        assert not block.returns or "RETURNING" in block.text
        return
    finally:
        raw.execute("ROLLBACK TO before")
    assert len(description) == len(block.returns)
    for (name, *_), declared in zip(description, block.returns, strict=True):
        assert name == declared or not name.isidentifier()


def test_a_column_of_json_declares_its_contents() -> None:
    for block in BLOCKS:
        assert set(block.inner) <= set(block.returns)
        lists = block.text.count("json_agg(json_build_array(")
        assert len(block.inner) == lists, block.name


def test_a_block_without_a_purpose_is_refused() -> None:
    with pytest.raises(ValueError, match="what it is for"):
        parsed("nameless", "SELECT 1;\n")


def test_a_block_that_does_not_say_what_it_returns_is_refused() -> None:
    with pytest.raises(ValueError, match="what it returns"):
        parsed("silent", "-- For a test.\nSELECT 1;\n")


def test_a_template_block_is_its_text_with_the_parts_filled_in() -> None:
    template = parsed("t", "-- For all.\n-- returns: id, n\nSELECT id, n FROM a WHERE {};\n")
    block = parsed("x", "-- For a test.\n-- like: t\nid = :id;\n", {"t": template})
    assert block.text == "SELECT id, n FROM a WHERE id = :id"
    assert (block.purpose, block.names, block.returns) == ("For a test.", ("id",), ("id", "n"))


def test_a_block_may_return_what_another_block_returns() -> None:
    first = parsed("a", "-- For a test.\n-- returns: id,\n-- jobs[id, name]\nSELECT 1, 2;\n")
    second = parsed("b", "-- For a test.\n-- returns: as a\nSELECT 1, 2;\n", {"a": first})
    assert second.returns == first.returns == ("id", "jobs")
    assert second.inner == {"jobs": ("id", "name")}


def test_text_that_looks_like_a_parameter_is_left_alone() -> None:
    block = parsed(
        "x", "-- For a test.\n-- returns: what_it_gives\nSELECT ':a', :b, c::text, :b;\n"
    )
    assert block.names == ("b", "b")
    assert block.written("?", 0) == "SELECT ':a', ?, c::text, ?"
