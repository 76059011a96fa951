"""A PostgreSQL database with an owner, a service's role and a reader, none a superuser."""

import itertools
import os
from collections.abc import Iterator
from urllib.parse import quote, urlsplit, urlunsplit

import attrs
import pytest
from click.testing import CliRunner, Result

from boxsched.cli import main
from tests.contract.conftest import (  # noqa: F401 (fixtures)
    db,
    postgres,
    postgres_db,
    sqlite_db,
)
from tests.contract.postgres_server import database, execute

PASSWORD = "p@ss/w:o%rd 'x'"
_numbers = itertools.count(1)


def run(*arguments: str, status: int = 0) -> Result:
    """Run a command, whose output must not contain the password."""
    ran = CliRunner().invoke(main, arguments, env={"BOXSCHED_DATABASE": None})
    if ran.exception is not None and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    assert ran.exit_code == status, (arguments, ran.output, ran.stderr)
    assert PASSWORD not in ran.output + ran.stderr
    assert quote(PASSWORD, safe="") not in ran.output + ran.stderr
    return ran


def as_role(url: str, role: str, password: str = PASSWORD) -> str:
    """Return the URL with another role and its password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:{quote(password, safe='')}@{host}"))


@attrs.frozen
class Roles:
    """The URLs of a new, empty database for its administrator, owner, service and reader."""

    admin: str
    names: dict[str, str]

    @property
    def owner(self) -> str:
        return as_role(self.admin, self.names["owner"])

    @property
    def service(self) -> str:
        return as_role(self.admin, self.names["service"])

    @property
    def reader(self) -> str:
        return as_role(self.admin, self.names["reader"])

    def upgrade(self) -> None:
        """Upgrade as the documentation says."""
        asked = ("--grant", self.names["service"], "--grant-read", self.names["reader"])
        run("db", "upgrade", "--database", self.owner, *asked)


@pytest.fixture
def roles(postgres: str) -> Iterator[Roles]:  # noqa: F811
    mark = f"{os.getpid()}_{next(_numbers)}"
    names = {name: f"{name} {mark}" for name in ("owner", "service", "reader")}
    password = PASSWORD.replace("'", "''")
    with database(postgres) as url:
        for role in names.values():
            execute(url, f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}'")
        name = urlsplit(url).path[1:]
        execute(url, f'ALTER DATABASE "{name}" OWNER TO "{names["owner"]}"')
        yield Roles(url, names)
    for role in names.values():
        execute(postgres, f'DROP ROLE "{role}"')
