"""The database in the bench: its rate is measured, and nothing stays behind."""

import psycopg2
import pytest

from boxsched.bench import database as measured
from boxsched.errors import Invalid, StoreAway
from tests.contract.postgres_server import database, served


@pytest.fixture(scope="module")
def url():
    with served() as server, database(server.url("postgres")) as url:
        yield url


def test_rows_are_inserted_and_removed(url, monkeypatch):
    monkeypatch.setattr(measured, "INSERT_SECONDS", 0.05)
    found = measured.inserts(url)
    assert found["single_row_inserts_per_second"] > 0
    assert found["fsync"] in ("on", "off")
    assert found["synchronous_commit"]
    raw = psycopg2.connect(url)
    with raw.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'boxsched_bench%'")
        assert cursor.fetchone() == (0,)
    raw.close()


def test_nothing_stays_after_an_interrupted_measurement(url, monkeypatch):
    def broken(*_):
        raise psycopg2.OperationalError("broken")

    monkeypatch.setattr(measured, "_rate", broken)
    with pytest.raises(StoreAway, match="broken"):
        measured.inserts(url)
    monkeypatch.undo()
    test_rows_are_inserted_and_removed(url, monkeypatch)


def test_the_message_about_a_failed_measurement_contains_no_password():
    with pytest.raises(StoreAway, match=r"--database: postgresql://ci@127\.0\.0\.1:1/x: ") as away:
        measured.inserts("postgresql://ci:pa55@127.0.0.1:1/x")
    assert "pa55" not in away.value.message
    with pytest.raises(Invalid) as none:
        measured.inserts("postgresql://ci:pa55%zz@127.0.0.1/x")
    assert "pa55" not in none.value.message
