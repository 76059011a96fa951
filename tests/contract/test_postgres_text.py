"""Values that we write into SQL text: each returns unchanged or is refused."""

from collections.abc import Iterator

import attrs
import psycopg2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from boxsched.errors import Invalid
from boxsched.model import Cancellation, Kind, Policy
from boxsched.states import JobState, Result, State, StopCause
from boxsched.store import Store
from boxsched.store.blocks import parsed
from boxsched.store.postgres.connection import _SESSION
from boxsched.store.postgres.text import Text, literals
from tests.contract.conftest import PostgresUnderTest
from tests.contract.postgres_sessions import asked, driver_of, statement
from tests.contract.store_data import NOW, Leader, build, spec

Raw = psycopg2.extensions.connection

NASTY = [
    "it's",
    "''",
    "'",
    "\\",
    "\\'; DROP TABLE job; --",
    "E'\\047'",
    "%s %(x)s %% %",
    ":a ::b :limit",
    "$$ $1 ? $x$",
    "/* -- */",
    "VALUES (1), (2)",
    "\t\r\n\x01\x7f",
    "\u2603 \U0001f600 \u2028 \ufeff \ufffd",
    "",
]
TYPES = {
    "text": st.one_of(
        st.sampled_from(NASTY),
        st.text(st.sampled_from("'\\%:$?();-/*EsSaU&\n\r\t \"`{}x0"), max_size=20),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    ),
    "numeric": st.one_of(st.integers(-(1 << 63), (1 << 63) - 1), st.integers()),
    "double precision": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "bytea": st.binary(max_size=40),
}
ENUMS = (State, JobState, Result, StopCause, Kind, Cancellation, Policy)


@pytest.fixture(scope="module")
def raw(postgres: str) -> Iterator[Raw]:
    """Set up a session like each of ours."""
    connection = psycopg2.connect(postgres, client_encoding="UTF8")
    connection.autocommit = True
    asked(connection, _SESSION)
    asked(connection, "SET statement_timeout = 0")
    yield connection
    connection.close()


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[tuple[object, ...]], list[object]]:
    """Column types, rows of them, and one more row of values."""
    types = draw(st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=4))
    row = st.tuples(*(st.none() | TYPES[type_] for type_ in types))
    rows = draw(st.lists(row, min_size=1, max_size=4))
    return types, rows, list(draw(row))


def came_back(value: object) -> object:
    return bytes(value) if isinstance(value, memoryview) else value


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tables())
@example((["text", "text"], [("'", "\\"), ("%s", ":b1")], ["\\'", "%%"]))
@example((["numeric"], [(-1,), (-(1 << 63),)], [0]))
@example((["double precision"], [(5e-324,), (-1.7976931348623157e308,)], [0.1 + 0.2]))
def test_values_return_unchanged(
    raw: Raw, table: tuple[list[str], list[tuple[object, ...]], list[object]]
) -> None:
    types, rows, beside = table
    names = [f"c{i}" for i in range(len(types))]
    casts = ", ".join(f"CAST(v.{n} AS {t})" for n, t in zip(names, types, strict=True))
    others = ", ".join(f"CAST(:b{i} AS {t})" for i, t in enumerate(types))
    block = parsed(
        "of_a_test",
        f"-- For a test.\n-- returns: all_of_them\n"
        f"WITH v(place, {', '.join(names)}) AS (VALUES (:place, "
        f"{', '.join(':' + name for name in names)}))\n"
        f"SELECT '100%', {casts}, {others}, - 1 -:minus FROM v ORDER BY place;\n",
    )
    text = Text("SELECT 'first'")
    values = {f"b{i}": value for i, value in enumerate(beside)}
    numbered = [(place, *row) for place, row in enumerate(rows)]
    text.add(block.rows(numbered, minus=-1, **values))
    found = [tuple(map(came_back, row)) for row in asked(raw, str(text))]
    assert found == [("100%", *row, *beside, 0) for row in rows]


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.text(max_size=8).map(lambda t: t[:4] + "\0" + t[4:]) | st.text("a\ud800\udfff", min_size=1)
)
def test_a_text_that_cannot_be_stored_is_refused_in_every_context(raw: Raw, value: str) -> None:
    try:
        (written,) = literals((value,))
        ((back,),) = asked(raw, f"SELECT {written}")
    except ValueError:  # also a surrogate
        assert "\0" in value or any("\ud800" <= c <= "\udfff" for c in value)
    else:
        assert back == value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("inf"), float("-inf"), 10**5000],
    ids=["nan", "inf", "-inf", "huge"],
)
def test_invalid_numbers_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"not a number|digits"):
        literals((value,))


@pytest.mark.parametrize("value", [object(), 1j, [1], (1,), {}, bytearray(b"x"), memoryview(b"x")])
def test_an_unknown_type_is_not_written(value: object) -> None:
    with pytest.raises(KeyError):
        literals((value,))


def test_enum_members_are_written_as_their_values(raw: Raw) -> None:
    words = [word for each in ENUMS for word in each]
    (row,) = asked(raw, f"SELECT {', '.join(literals(words))}")
    assert list(row) == [word.value for word in words]


async def test_a_session_reads_a_text_as_we_mean_it(store: Store) -> None:
    shown = "SELECT current_setting('standard_conforming_strings'), current_setting('{}')"
    found = await driver_of(store).serving.read(statement, shown.format("client_encoding"))
    assert found == [("on", "UTF8")]


async def test_an_url_cannot_change_how_a_session_reads_texts(db: PostgresUnderTest) -> None:
    db.url += "?client_encoding=latin1&options=-cstandard_conforming_strings%3Doff"
    leader = await Leader(await db.open()).lead()
    done = await leader.submit(build(await leader.project(), message="\\' \u2603"))
    shown = await leader.store.workload(done.id)
    assert shown is not None
    assert shown.message == "\\' \u2603"


# --- Through the store ----------------------------------------------------------------------


@pytest.fixture
def db(postgres_db: PostgresUnderTest) -> PostgresUnderTest:
    return postgres_db


async def test_texts_of_a_submission_return_unchanged(leader: Leader) -> None:
    project = await leader.project()
    for text in NASTY:
        jobs = (attrs.evolve(spec(), commands=(text,), environment={"X": text}),)
        done = await leader.submit(build(project, message=text, author=text, jobs=jobs))
        shown = await leader.store.workload(done.id)
        assert shown is not None
        assert (shown.message, shown.author) == (text, text)
        assert (shown.jobs[0].commands, shown.jobs[0].environment) == ((text,), {"X": text})


async def test_text_that_the_database_cannot_store_is_refused_and_affects_no_other_request(
    leader: Leader,
) -> None:
    project = await leader.project()
    with pytest.raises(Invalid):
        await leader.store.submit([build(project, message="a\0b")])
    with pytest.raises(Invalid):
        await leader.store.put_session("digest", "half a character: \ud83d", NOW)
    with pytest.raises(Invalid):
        await leader.store.put_session("digest", "me", float("nan"))
    with pytest.raises(Invalid):
        await leader.store.put_project("web", "{}", 1 << 63)
    assert (await leader.submit(build(project))).number == 1
