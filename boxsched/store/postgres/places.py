"""The addresses of a PostgreSQL database, and the parameters to connect to each."""

import asyncio
import os
import socket
from collections.abc import Mapping
from typing import Any

from boxsched.errors import Invalid
from boxsched.store.postgres.url import parsed

# Noticed within seconds: a server that went without a word, in either direction.
_CONNECTING: Mapping[str, Any] = {
    "application_name": "boxsched",
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 1,
    "keepalives_count": 3,
    "tcp_user_timeout": 3000,
}
# As the lock session: of a standby and its primary, both are to find the one that takes writes.
_ALWAYS: Mapping[str, Any] = {"client_encoding": "UTF8", "target_session_attrs": "read-write"}
MAX_PORT = 65_535
_LISTS = ("host", "hostaddr", "port")


async def places(url: str) -> list[dict[str, Any]]:
    """What to connect to, one after the other: an address each, looked up here.

    libpq would wait for the name while the event loop stands still, and take a new socket for its
    next address, of which aiopg knows nothing. Where neither the URL nor the environment names a
    host, libpq finds it: by a service, or it is the local socket. Raises Invalid.
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
    """As libpq reads it; a service's file comes before the environment, and is left to libpq."""
    if "service" in given or "PGSERVICE" in os.environ:
        return dict(given)
    names = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT"}
    return {key: os.environ[name] for key, name in names.items() if os.environ.get(name)} | {
        **given
    }


def _each_host(given: Mapping[str, str]) -> list[dict[str, str]]:
    """libpq's lists, cut: one host, address and port each."""
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
            raise Invalid(f"{host[:80]!a} cannot be the name of a host", "database")
    return [{key: values[n] for key, values in lists.items() if values[n]} for n in range(count)]


def _is_socket(host: str) -> bool:
    return host.startswith(("/", "@"))


def _is_name(host: str) -> bool:
    try:
        host.encode("idna")
    except UnicodeError:  # a label that is empty or too long
        return False
    return True
