"""The status commands, and that no command ever prints a password."""

import asyncio
import json
from pathlib import Path

import pytest

from boxsched.store import open_store
from boxsched.store.blocks import sql_text
from boxsched.store.schema import SCHEMA_VERSION
from boxsched.store.sqlite.connection import worded
from tests.contract.conftest import DatabaseUnderTest, PostgresUnderTest
from tests.contract.postgres_server import execute
from tests.contract.store_data import Leader
from tests.contract.test_check import good_history
from tests.db.conftest import PASSWORD, Roles, run


async def test_the_status_command_works_on_either_database(db: DatabaseUnderTest) -> None:
    leader = await Leader(await db.open()).lead()
    await good_history(leader)
    said = await asyncio.to_thread(run, "db", "status", "--database", db.url, "--json")
    found = json.loads(said.stdout)
    (shard,) = found["shards"]
    assert shard["since"] > 1.7e9
    expected = {"id": 1, "epoch": 1, "batch": leader.batch, "node": "node-1"}
    assert shard == shard | expected | {"organization": "default"}
    assert found["cluster"] == await leader.store.cluster()
    assert found["schema"] == found["schema_of_program"]
    assert (found["unfinished"], found["commands"]) == (2, 1)
    assert found["bytes"] > 10_000
    text = (await asyncio.to_thread(run, "db", "status", "--database", db.url)).stdout
    assert "node-1" in text and "default" in text


async def test_an_upgrade_prepares_either_database(db: DatabaseUnderTest) -> None:
    asked = ("--database", db.url)
    said = await asyncio.to_thread(run, "db", "status", *asked, status=_missing(db))
    assert "no database" in said.stderr or "db upgrade" in said.stderr
    said = await asyncio.to_thread(run, "db", "upgrade", *asked)
    assert said.stdout.endswith(f": prepared: schema {SCHEMA_VERSION}\n")
    await asyncio.to_thread(run, "db", "status", *asked)
    said = await asyncio.to_thread(run, "db", "upgrade", *asked)
    assert said.stdout.endswith(f": schema {SCHEMA_VERSION}: nothing to do\n")
    await (await Leader(await db.open()).lead()).project()


async def test_an_upgrade_shows_the_versions_from_and_to(db: DatabaseUnderTest) -> None:
    is_sqlite = db.url.startswith("sqlite")
    texts = ["schema_0001.sql", f"schema_0001_{'sqlite' if is_sqlite else 'postgres'}.sql"]
    written = [worded(sql_text(text)) if is_sqlite else sql_text(text) for text in texts]
    written.append("INSERT INTO meta VALUES ('schema', '1'), ('cluster', 'c')")
    for text in written:
        db.plant(text) if is_sqlite else execute(db.url, text)
    said = await asyncio.to_thread(run, "db", "upgrade", "--database", db.url)
    assert said.stdout.endswith(f": upgraded: schema 1 to {SCHEMA_VERSION}\n")


async def test_an_upgrade_names_the_schema_that_it_prepared(postgres_db: PostgresUnderTest) -> None:
    execute(postgres_db.url, "CREATE SCHEMA second")
    url = f"{postgres_db.url}?options=-csearch_path%3Dsecond"
    said = await asyncio.to_thread(run, "db", "upgrade", "--database", url)
    assert said.stdout.endswith(f": prepared: schema {SCHEMA_VERSION} in second\n")


def _missing(db: DatabaseUnderTest) -> int:
    return 1 if db.url.startswith("sqlite") else 2


async def test_the_check_command_reports_its_findings(roles: Roles, tmp_path: Path) -> None:
    await asyncio.to_thread(roles.upgrade)
    store = open_store(roles.service, tmp_path)
    await store.open()
    await good_history(await Leader(store).lead())
    await store.close()
    asked = ("check", "--database", roles.reader)
    assert (await asyncio.to_thread(run, *asked)).stdout == "All invariants hold.\n"
    execute(roles.owner, "UPDATE project SET next_number = 9")
    found = json.loads((await asyncio.to_thread(run, *asked, "--json", status=1)).stdout)
    assert found["database"].startswith("postgresql://reader")
    assert [one["invariant"] for one in found["violations"]] == ["I5, V24"]
    assert found["notes"] == []
    text = (await asyncio.to_thread(run, *asked, status=1)).stdout
    assert "I5, V24: a project's numbers have no gaps" in text


WRONG = [
    f"postgresql://ada:{PASSWORD}@127.0.0.1:1/x",  # not percent-encoded
    "postgresql://ada:p%40ss%2Fw%3Ao%25rd%20%27x%27@127.0.0.1:1/x",  # no server listens
    "postgresql://ada:p%40ss%2Fw%3Ao%25rd%20%27x%27@127.0.0.1:port/x",
    f"mysql://ada:{PASSWORD}@db/x",
    f"ada:{PASSWORD}@db/x",
]


@pytest.mark.parametrize("url", WRONG)
@pytest.mark.parametrize("command", ["check", "db status", "db upgrade", "db restored"])
def test_no_error_contains_the_password(command: str, url: str) -> None:
    ran = _failed(*command.split(), "--database", url)
    assert "Traceback" not in ran


@pytest.mark.parametrize("url", WRONG)
def test_no_error_of_a_move_contains_the_password(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = f"sqlite:///{tmp_path}/x.sqlite"
    run("db", "upgrade", "--database", file)
    _failed("db", "move", "--from", file, "--to", url)
    _failed("db", "move", "--from", url, "--to", url)
    said = capfd.readouterr()
    assert PASSWORD not in said.out + said.err


def _failed(*arguments: str) -> str:
    for status in (1, 2):
        try:
            ran = run(*arguments, status=status)
        except AssertionError:
            if status == 2:
                raise
        else:
            assert ran.stderr.count("\n") == 1, ran.stderr
            return ran.stderr
    raise AssertionError
