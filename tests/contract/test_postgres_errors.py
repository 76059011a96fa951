"""What PostgreSQL says, as errors of ours: one for each thing that a caller can do about it."""

from collections.abc import Iterator

import psycopg2
import pytest

from boxsched.errors import BoxschedError, Fenced, Invalid, OutcomeUnknown, StoreAway, TooLong
from boxsched.store.errors import InvariantRefused, RightMissing, StoreDamaged
from boxsched.store.postgres.errors import (
    LostRace,
    RowHeld,
    ends_session,
    refuses_entry,
    translated,
)
from tests.contract.conftest import PostgresUnderTest


@pytest.fixture
def connection(postgres_db: PostgresUnderTest) -> Iterator[psycopg2.extensions.connection]:
    connection = psycopg2.connect(postgres_db.url)
    connection.autocommit = True
    yield connection
    connection.close()


def raised(connection: psycopg2.extensions.connection, code: str) -> psycopg2.Error:
    """An error of the server with this code."""
    text = f"RAISE EXCEPTION USING ERRCODE = '{code}', MESSAGE = 'of the test'"
    with pytest.raises(psycopg2.Error) as caught, connection.cursor() as cursor:
        cursor.execute(f"DO $$ BEGIN {text}; END $$")
    return caught.value


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        ("40001", LostRace, "of the test"),
        ("40P01", LostRace, "of the test"),
        ("53100", StoreAway, "the database's disk is full: of the test"),
        ("55P03", RowHeld, "another transaction holds a lock that this one needs: of the test"),
        ("42501", RightMissing, "the database's role lacks a right: of the test; the owner"),
        ("XX001", StoreDamaged, "the database is damaged: of the test"),
        ("XX002", StoreDamaged, "the database is damaged: of the test"),
        ("57014", TooLong, "the database canceled the statement: of the test"),
        ("25006", StoreAway, "the database accepts no writes: a standby, or read-only: of the"),
        ("53300", StoreAway, "the database has too many connections: of the test"),
        ("25P03", StoreAway, "the transaction was left alone too long: of the test"),
        ("08006", StoreAway, "the database does not support this: of the test"),
        ("28000", StoreAway, "the database does not support this: of the test"),
        ("3D000", StoreAway, "the database does not support this: of the test"),
        ("53200", StoreAway, "the database does not support this: of the test"),
        ("57P01", StoreAway, "the database does not support this: of the test"),
        ("58030", StoreAway, "the database does not support this: of the test"),
        ("22003", Invalid, "the database cannot store this value: of the test"),
        ("22021", Invalid, "the database cannot store this value: of the test"),
        ("22P05", Invalid, "the database cannot store this value: of the test"),
        ("23505", InvariantRefused, "refused by the schema: of the test"),
        ("23001", InvariantRefused, "refused by the schema: of the test"),
    ],
)
def test_a_code_of_the_server_as_an_error_of_ours(
    connection: psycopg2.extensions.connection, code: str, kind: type[BoxschedError], said: str
) -> None:
    error = raised(connection, code)
    assert not ends_session(error)
    for committing in (False, True):  # an ERROR says that it was not committed
        found = translated(error, committing=committing)
        assert type(found) is kind
        assert found.message.startswith(said)


@pytest.mark.parametrize("code", ["42601", "22012", "P0001", "XX000"])
def test_a_mistake_of_ours_is_raised_as_it_is(
    connection: psycopg2.extensions.connection, code: str
) -> None:
    assert translated(raised(connection, code)) is None


def test_the_fence_is_one_column_and_no_other(
    connection: psycopg2.extensions.connection,
) -> None:
    for table, column, kind in (
        ("shard", "batch", Fenced),
        ("shard", "epoch", InvariantRefused),
        ("job", "batch", InvariantRefused),
    ):
        text = f"RAISE not_null_violation USING TABLE = '{table}', COLUMN = '{column}'"
        with pytest.raises(psycopg2.Error) as caught, connection.cursor() as cursor:
            cursor.execute(f"DO $$ BEGIN {text}; END $$")
        assert type(translated(caught.value)) is kind


def test_a_connection_that_broke_leaves_a_commit_unknown() -> None:
    for error in (psycopg2.OperationalError("gone"), psycopg2.DatabaseError("gone")):
        assert ends_session(error)
        assert type(translated(error)) is StoreAway
        assert type(translated(error, committing=True)) is OutcomeUnknown
    unsent = psycopg2.InterfaceError("connection already closed")
    assert type(translated(unsent, committing=True)) is StoreAway, "nothing was sent"
    for mistake in (psycopg2.ProgrammingError("no results"), psycopg2.NotSupportedError("x")):
        assert not ends_session(mistake)
        assert translated(mistake) is None


@pytest.mark.parametrize(
    ("said", "refuses"),
    [
        ('FATAL:  password authentication failed for user "x"', True),
        ("fe_sendauth: no password supplied", True),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4"', True),
        ('FATAL:  role "x" does not exist', True),
        ('FATAL:  database "x" does not exist', True),
        ('FATAL:  role "x" is not permitted to log in', True),
        ('FATAL:  permission denied for database "x"', True),
        ('FATAL:  GSSAPI authentication failed for user "x"', True),
        ("FATAL:  the database system is starting up", False),
        ("FATAL:  sorry, too many clients already", False),
        ("Connection refused", False),
    ],
)
def test_only_some_refusals_are_worth_a_repetition(said: str, refuses: bool) -> None:
    assert refuses_entry(said) is refuses
