"""Where a PostgreSQL database is, and how one connects to it."""

import asyncio
import socket
from collections.abc import Mapping
from typing import Any

from boxsched.errors import Invalid
from boxsched.store.postgres_url import parsed

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


async def places(url: str) -> list[dict[str, Any]]:
    """What to connect to, one after the other: an address each, looked up here.

    libpq would wait for the name while the event loop stands still, and take a new socket for its
    next address, of which aiopg knows nothing. Where the URL names no host, libpq finds it: by
    ``PGHOST``, by a service, or it is the local socket.
    """
    given = parsed(url)
    hosts = given.get("host", "").split(",")
    ports = given.get("port", "").split(",")
    if len(ports) == 1:
        ports *= len(hosts)
    parameters = {**_CONNECTING, **given, **_ALWAYS}
    if "hostaddr" in given or "host" not in given:
        return [parameters]
    if len(ports) != len(hosts):
        raise Invalid(f"{len(hosts)} hosts, but {len(ports)} ports", "database")
    found: list[dict[str, Any]] = []
    for host, port in zip(hosts, ports, strict=True):
        place = {**parameters, "host": host} | ({"port": port} if port else {})
        if not host or host.startswith(("/", "@")):
            found.append(place)
            continue
        loop = asyncio.get_running_loop()
        for _, _, _, _, address in await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM):
            found.append({**place, "hostaddr": address[0]})
    return found
