"""The SQL texts themselves."""

import sqlite3
from importlib.resources import files

import pytest

from boxsched.store.blocks import Block, _parsed, load
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
def test_a_block_says_what_for_and_is_one_statement_that_the_schema_knows(
    block: Block, raw: sqlite3.Connection
) -> None:
    assert block.purpose.endswith(".")
    assert ";" not in block.text
    text = in_sqlites_words(block, 3)
    raw.execute(f"EXPLAIN {text}", [None] * text.count("?"))


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.row_names], ids=lambda block: block.name)
def test_a_block_of_rows_lets_out_rows_of_nothing(block: Block, raw: sqlite3.Connection) -> None:
    values = [None] + [0] * (len(block.row_names) - 1) + [1] * len(block.names)
    before = raw.total_changes
    assert raw.execute(in_sqlites_words(block, 1), values).fetchall() in ([], [("[]",)])
    assert raw.total_changes == before


def test_what_gives_rows_is_known_by_its_text() -> None:
    found = {block.name for block in BLOCKS if block.answers}
    assert {"fence", "insert_workloads", "change_jobs", "empty_inbox", "insert_keys"}.isdisjoint(
        found
    )
    assert {"known_keys", "workload_ids", "raise_epoch", "put_project", "log_ends", "ping"} <= found


def test_a_block_without_a_purpose_is_refused() -> None:
    with pytest.raises(ValueError, match="what it is for"):
        _parsed("nameless", "SELECT 1;\n")


def test_text_that_looks_like_a_parameter_is_left_alone() -> None:
    block = _parsed("x", "-- For a test.\nSELECT ':a', :b, c::text, :b;\n")
    assert block.names == ("b", "b")
    assert block.written("?", 0) == "SELECT ':a', ?, c::text, ?"
