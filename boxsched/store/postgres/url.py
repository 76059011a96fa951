"""URLs of PostgreSQL databases: parsed, and shown without the password."""

import os
from collections.abc import Mapping
from urllib.parse import quote

import psycopg2
from psycopg2.extensions import parse_dsn

from boxsched.errors import Invalid

OPTION = "--database"
_ENCODED = "percent-encoded (/ is %2F, @ is %40, : is %3A, % is %25)"


def parsed(url: str) -> dict[str, str]:
    "Return libpq's parameters. Raises Invalid, with a message that contains no part of the URL."
    try:
        given: dict[str, str] = parse_dsn(url)
    except psycopg2.ProgrammingError:  # its message contains parts of the URL
        raise Invalid(
            "not a URL of a PostgreSQL database: postgresql://USER:PASSWORD@HOST:PORT/NAME, with "
            f"special characters in the password {_ENCODED}",
            OPTION,
        ) from None
    ports_are_numbers = all(not one or one.isdecimal() for one in _ports(given))
    if _is_cut(given, url) or not (ports_are_numbers or "user" in given):
        raise Invalid(f"special characters in the password must be {_ENCODED}", OPTION)
    if not ports_are_numbers:
        raise Invalid("the port is not a number", OPTION)
    return given


def _is_cut(given: Mapping[str, str], url: str) -> bool:
    """Whether a / or an @ in the password was taken for the end of the user's part."""
    name = given.get("dbname", "")
    is_odd = any(letter in name for letter in "@:/")
    if is_odd and quote(name, safe="").lower() not in url.lower():
        return True
    return any("@" in host[1:] for host in _hosts(given))  # a leading @ means an abstract socket


def _hosts(given: Mapping[str, str]) -> list[str]:
    return given.get("host", given.get("hostaddr", "")).split(",")


def _ports(given: Mapping[str, str]) -> list[str]:
    return given.get("port", "").split(",")


def places_shown(url: str) -> str:
    """Return HOST:PORT, or several of them, for people."""
    given = parsed(url)
    hosts, ports = _hosts(given), _ports(given)
    if hosts == [""]:
        return "the local socket"
    if len(ports) == 1:
        ports *= len(hosts)
    usual = os.environ.get("PGPORT", "5432")
    return ",".join(f"{h}:{p or usual}" for h, p in zip(hosts, ports, strict=False))


def shown(url: str) -> str:
    """Return the URL without the password, for people, with the service and the options, if any."""
    given = parsed(url)
    user = f"{given['user']}@" if "user" in given else ""
    host = ",".join(_hosts(given))
    port = f":{given['port']}" if "port" in given else ""
    more = [f"{name}={quote(given[name])}" for name in ("service", "options") if name in given]
    asked = f"?{'&'.join(more)}" if more else ""
    return f"postgresql://{user}{host}{port}/{given.get('dbname', '')}{asked}"
