"""URLs of databases: special characters in passwords, and the error messages."""

from urllib.parse import quote

import pytest

from boxsched.errors import Invalid
from boxsched.store.postgres.places import places
from boxsched.store.postgres.url import parsed, places_shown, shown
from tests.db.conftest import run

CUT = [
    "postgresql://de:pa/ss@127.0.0.1:18432/boxsched",
    "postgresql://de:1/2@db/x",
    "postgresql://de:5/w@db:5432/x",
    "postgresql://de:p@ss@db/x",
    "postgresql://de:p@s/w:o%25rd@127.0.0.1:1/x",
    "postgresql://de/x@db/x",
]


@pytest.mark.parametrize("url", CUT)
def test_only_the_character_that_cuts_the_url_is_reported(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        parsed(url)
    assert caught.value.message.startswith(
        "special characters in the password must be percent-encoded (/ is"
    )
    command = run("db", "status", "--database", url, status=2).stderr
    assert command == f"boxsched: --database: {caught.value.message}\n"


@pytest.mark.parametrize("url", ["postgresql://de:p%zz@db/x", "postgresql://de:p%@db/x"])
def test_a_percent_sign_in_a_password_must_be_encoded(url: str) -> None:
    with pytest.raises(Invalid, match=r"not a URL .* % is %25"):
        parsed(url)


def test_an_invalid_port_is_reported() -> None:
    with pytest.raises(Invalid, match="the port is not a number"):
        parsed("postgresql://de:secret@db:port/x")


@pytest.mark.parametrize("password", ["a/b", "a@b", "a:b", "a%b", "a?b", "a#b", "a b", "ä"])
def test_encoded_values_are_accepted(password: str) -> None:
    url = f"postgresql://de:{quote(password, safe='')}@db:5433/x"
    assert parsed(url)["password"] == password
    assert shown(url) == "postgresql://de@db:5433/x"


WHOLE = {
    "postgresql://de@db/x": "db:5432",
    "postgresql://de@db,db-2:5433/x": "db:5432,db-2:5433",
    "postgresql://de@db,db-2/x": "db:5432,db-2:5432",
    "postgresql://de@%2Frun%2Fpg/x": "/run/pg:5432",
    "postgresql:///x?host=@abstract": "@abstract:5432",
    "postgresql:///a%40b%2fc": "the local socket",
    "postgresql://[::1]:5433/x": "::1:5433",
}


@pytest.mark.parametrize("url", WHOLE)
def test_valid_settings_are_accepted(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PGPORT", raising=False)
    assert places_shown(url) == WHOLE[url]


def test_an_explicit_schema_is_shown() -> None:
    url = "postgresql://de:secret@db/x?options=-csearch_path%3Dsecond&sslmode=require"
    assert shown(url) == "postgresql://de@db/x?options=-csearch_path%3Dsecond"


@pytest.mark.parametrize(
    ("url", "environment", "expected"),
    [
        ("postgresql://127.0.0.1:5/d", {}, [("127.0.0.1", "127.0.0.1", "5")]),
        (
            "postgresql://a,b/d?hostaddr=127.0.0.1,127.0.0.2&port=1,2",
            {"PGHOST": "c"},
            [("a", "127.0.0.1", "1"), ("b", "127.0.0.2", "2")],
        ),
        (
            "postgresql:///d?hostaddr=127.0.0.1,127.0.0.2&port=9",
            {},
            [(None, "127.0.0.1", "9"), (None, "127.0.0.2", "9")],
        ),
        (
            "postgresql:///d",
            {"PGHOST": "127.0.0.1,/run", "PGPORT": "7,"},
            [("127.0.0.1", "127.0.0.1", "7"), ("/run", None, None)],
        ),
        ("postgresql:///d?service=s", {"PGHOST": "c"}, [(None, None, None)]),
    ],
)
async def test_each_server_is_shown_with_its_own_address(
    url: str,
    environment: dict[str, str],
    expected: list[tuple[str | None, ...]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PGHOST", "PGHOSTADDR", "PGPORT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = await places(url)
    assert [tuple(p.get(key) for key in ("host", "hostaddr", "port")) for p in found] == expected


async def test_lists_of_different_lengths_are_refused() -> None:
    with pytest.raises(Invalid, match="2 hosts, but 3 of port"):
        await places("postgresql://a,b/d?port=1,2,3")


async def test_a_session_notices_within_seconds_that_its_server_is_gone() -> None:
    (found,) = await places("postgresql://u@127.0.0.1/x")
    assert {key: found[key] for key in found if "keepalives" in key or "timeout" in key} == {
        "keepalives": 1, "keepalives_idle": 5, "keepalives_interval": 1, "keepalives_count": 3,
        "tcp_user_timeout": 3_000,
    }  # fmt: skip
    assert (found["application_name"], found["client_encoding"]) == ("boxsched", "UTF8")
    assert found["target_session_attrs"] == "read-write"
