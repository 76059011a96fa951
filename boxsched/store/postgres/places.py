"""The addresses of a PostgreSQL database, and the parameters to connect to each."""

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any

from boxsched.errors import Invalid
from boxsched.store.postgres.url import parsed

# With these, a server that disappears without closing the connection is noticed within seconds.
_CONNECTING: Mapping[str, Any] = {
    "application_name": "boxsched",
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}
# Like the lock session: of a standby and its primary, use the one that accepts writes.
_ALWAYS: Mapping[str, Any] = {"client_encoding": "UTF8", "target_session_attrs": "read-write"}
MAX_PORT = 65_535
_LISTS = ("host", "hostaddr", "port")


async def places(url: str) -> list[dict[str, Any]]:
    """Return the addresses to try, in order, with names resolved here.

    libpq would block the event loop while it resolves a name, and open a new socket for the next
    address, which aiopg does not notice. If neither the URL nor the environment names a host, libpq
    finds it: from a service, or the local socket. Raises Invalid.
    """
    given = _with_environment(parsed(url))
    alone = {key: value for key, value in given.items() if key not in _LISTS}
    parameters = {**_CONNECTING, **alone, **_ALWAYS}
    found: list[dict[str, Any]] = []
    for each in _each_host(given):
        place = parameters | each
        host = each.get("host", "")
        if "hostaddr" in each or not host or _is_socket(host):
            found.append(place)
            continue
        loop = asyncio.get_running_loop()
        for _, _, _, _, address in await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            found.append({**place, "hostaddr": address[0]})
    return found


def _with_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Add the environment's parameters, like libpq. A service file has precedence and is left to
    libpq.
    """
    if "service" in given or "PGSERVICE" in os.environ:
        return dict(given)
    names = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT"}
    return {key: os.environ[name] for key, name in names.items() if os.environ.get(name)} | {
        **given
    }


def _each_host(given: Mapping[str, str]) -> list[dict[str, str]]:
    """Split libpq's lists into single hosts, addresses and ports."""
    lists = {key: given[key].split(",") for key in _LISTS if given.get(key)}
    count = max((len(lists[key]) for key in ("host", "hostaddr") if key in lists), default=1)
    if len(lists.get("port", ())) == 1:
        lists["port"] *= count
    for key, values in lists.items():
        if len(values) != count:
            raise Invalid(f"{count} hosts, but {len(values)} of {key}", "database")
    for port in filter(None, lists.get("port", ())):
        if not (port.isascii() and port.isdigit() and 0 < int(port[:9]) <= MAX_PORT):
            said = f"the port {port[:20]!a} is not a number from 1 to {MAX_PORT}"
            raise Invalid(said, "database")
    for host in lists.get("host", ()):
        if not _is_socket(host) and not _is_name(host):
            raise Invalid(f"{host[:80]!a} is not a valid host name", "database")
    return [{key: values[n] for key, values in lists.items() if values[n]} for n in range(count)]


def _is_socket(host: str) -> bool:
    return host.startswith(("/", "@"))


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:  # a part of the name is empty or too long
        return False
    return True
