"""Least privilege (S14): what each role may do, and what it may not."""

import asyncio
from pathlib import Path

import psycopg2
import pytest

from boxsched.protocol.shards import SHARD
from boxsched.store import open_store
from boxsched.store.blocks import sql_text
from boxsched.store.errors import RightMissing, SchemaTooOld
from boxsched.store.operating.check import check
from boxsched.store.records import Token
from boxsched.store.tables import TABLES
from tests.contract.postgres_server import execute
from tests.contract.store_data import NOW, Leader
from tests.contract.test_check import good_history
from tests.db.conftest import Roles, run


async def test_a_service_runs_from_submission_to_finish_by_its_role(
    roles: Roles, tmp_path: Path
) -> None:
    await asyncio.to_thread(roles.upgrade)
    store = open_store(roles.service, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    await good_history(leader)
    await leader.finish((await store.unfinished())[0].id, 0)
    await store.open_shards(2)
    await store.put_node("a", "http://a", "1")
    await store.forget_node("a")
    await store.put_token(Token("t1", "d" * 64, "worker", "w", 1.0))
    assert await store.revoke_token("t1")
    await store.put_session("s", "admin", 9e9)
    await store.drop_session("s")
    await store.close()
    assert await check(roles.reader) == [], "a reader may check"
    assert await check(roles.service) == []


async def test_a_service_may_delete_old_data_and_nothing_else(roles: Roles, tmp_path: Path) -> None:
    await asyncio.to_thread(roles.upgrade)
    store = open_store(roles.service, tmp_path)
    await store.open()
    leader = await Leader(store).lead()
    await good_history(leader)
    assert (await store.prune_history(SHARD, NOW + 1e6, 4)).events > 0
    await store.close()
    assert await check(roles.reader) == []
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        execute(roles.reader, "SELECT forget_events(1, 1)")


def test_no_table_of_a_service_can_replace_the_history(roles: Roles) -> None:
    """Functions of the tables' owner use these tables, not tables of the caller."""
    roles.upgrade()
    own = "CREATE TEMP TABLE event AS SELECT 1 AS shard, 1 AS batch"
    connection = psycopg2.connect(roles.service)
    with connection.cursor() as cursor:
        cursor.execute(f"{own}; SELECT forget_events(1, 9)")
        assert cursor.fetchall() == [(0,)]
        cursor.execute("SELECT count(*) FROM pg_temp.event")
        assert cursor.fetchall() == [(1,)]
    connection.close()


FORBIDDEN_TO_A_SERVICE = [
    "DROP TABLE event",
    "DROP TABLE log_chunk",
    "TRUNCATE event",
    "TRUNCATE log_chunk",
    "UPDATE event SET type = 'x'",
    "DELETE FROM event",
    "UPDATE leadership SET epoch = 9",
    "DELETE FROM leadership",
    "UPDATE meta SET value = '9'",
    "INSERT INTO meta VALUES ('a', 'b')",
    "ALTER TABLE workload ADD COLUMN x TEXT",
    "ALTER TABLE event DISABLE TRIGGER ALL",
    "ALTER TABLE event OWNER TO CURRENT_USER",
    "CREATE TABLE mine (id BIGINT)",
    "CREATE SCHEMA mine",
    "CREATE INDEX ON event (type)",
    "CREATE ROLE mine",
    "DROP FUNCTION exact(double precision)",
    "SELECT setval('workload_id', 1)",
    "SET session_replication_role = replica",
]
FORBIDDEN_TO_A_READER = [
    *FORBIDDEN_TO_A_SERVICE,
    "INSERT INTO project (name) VALUES ('x')",
    "UPDATE workload SET priority = 1",
    "DELETE FROM inbox",
    "SELECT nextval('workload_id')",
    "SELECT webhook_secret FROM project",
    "SELECT * FROM project",
    "SELECT digest FROM token",
    "SELECT digest FROM page_session",
]


@pytest.mark.parametrize("role", ["service", "reader"])
def test_a_role_has_no_right_that_it_does_not_need(roles: Roles, role: str) -> None:
    roles.upgrade()
    forbidden = {"service": FORBIDDEN_TO_A_SERVICE, "reader": FORBIDDEN_TO_A_READER}[role]
    assert [one for one in forbidden if _may(getattr(roles, role), one)] == []


def _may(url: str, statement: str) -> bool:
    try:
        execute(url, statement)
    except psycopg2.errors.InsufficientPrivilege:
        return False
    return True


def test_every_table_is_named(roles: Roles) -> None:
    """An unnamed table would be inaccessible to the service, and would not be moved."""
    roles.upgrade()
    connection = psycopg2.connect(roles.owner)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT CAST(relname AS text) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')"
        )
        found = {name for (name,) in cursor}
    connection.close()
    assert found == set(TABLES)


def test_status_shows_missing_and_excess_rights_of_a_role(roles: Roles) -> None:
    roles.upgrade()
    name = roles.names["service"]
    assert "has what a service needs\n" in status(roles.service)
    assert "may read\n" in status(roles.reader)
    assert "the owner" in status(roles.owner)
    execute(roles.owner, f'GRANT TRUNCATE ON event TO "{name}"')
    assert "and more: TRUNCATE on event" in status(roles.service)
    execute(roles.owner, f'REVOKE INSERT ON inbox FROM "{name}"')
    assert "lacks INSERT on inbox" in status(roles.service, 1)


def status(url: str, exit_status: int = 0) -> str:
    return run("db", "status", "--database", url, status=exit_status).stdout


def test_an_upgrade_grants_earlier_roles_the_rights_that_they_need_now(roles: Roles) -> None:
    roles.upgrade()
    for role in ("service", "reader"):
        execute(roles.owner, f'REVOKE ALL ON job FROM "{roles.names[role]}"')
    assert "lacks" in status(roles.service, 1)
    said = run("db", "upgrade", "--database", roles.owner).stdout
    assert f"{roles.names['service']} may serve\n" in said
    assert f"{roles.names['reader']} may read\n" in said
    assert "has what a service needs\n" in status(roles.service)
    assert "may read\n" in status(roles.reader)


def test_the_printed_statements_do_the_same(roles: Roles) -> None:
    asked = ("--grant", roles.names["service"], "--grant-read", roles.names["reader"])
    run("db", "upgrade", "--database", roles.owner)
    printed = run("db", "upgrade", "--database", roles.owner, *asked, "--print").stdout
    assert "permission denied" in refused(roles.service)
    execute(roles.owner, printed)
    assert "has what a service needs\n" in status(roles.service)
    assert "may read\n" in status(roles.reader)


def refused(url: str) -> str:
    return run("db", "status", "--database", url, status=1).stderr


def test_roles_that_rights_cannot_limit_are_refused(roles: Roles) -> None:
    for role, why in (
        ("nobody of that name", "CREATE ROLE"),
        (roles.names["owner"], "the owner of the tables"),
        ("boxsched", "a superuser"),
    ):
        asked = ("--grant", role)
        assert why in run("db", "upgrade", "--database", roles.owner, *asked, status=2).stderr


def test_only_the_owner_grants(roles: Roles) -> None:
    roles.upgrade()
    asked = ("--grant", roles.names["reader"])
    said = run("db", "upgrade", "--database", roles.service, *asked, status=1).stderr
    assert "permission denied" in said or "for the owner" in said


async def test_a_service_on_an_older_schema_reports_how_to_upgrade_it(
    roles: Roles, tmp_path: Path
) -> None:
    for text in ("schema_0001.sql", "schema_0001_postgres.sql"):
        execute(roles.owner, sql_text(text))
    execute(roles.owner, "INSERT INTO meta VALUES ('schema', '1'), ('cluster', 'c')")
    name = roles.names["service"]
    execute(roles.owner, f'GRANT ALL ON ALL TABLES IN SCHEMA public TO "{name}"')
    with pytest.raises(SchemaTooOld, match=r"schema 1.*db upgrade as the owner"):
        await open_store(roles.service, tmp_path).open()
    await asyncio.to_thread(roles.upgrade)
    store = open_store(roles.service, tmp_path)
    await store.open()
    assert await store.cluster() == "c"
    await store.close()


async def test_a_service_on_an_empty_database_reports_how_to_prepare_it(
    roles: Roles, tmp_path: Path
) -> None:
    with pytest.raises(SchemaTooOld, match="db upgrade as the owner"):
        await open_store(roles.service, tmp_path).open()
    await asyncio.to_thread(run, "db", "upgrade", "--database", roles.owner)
    with pytest.raises(RightMissing, match="permission denied"):
        await open_store(roles.service, tmp_path).open()
