"""Connect to each host, and read the mark of its server (``marks``)."""

import asyncio
from collections.abc import Mapping
from typing import Any

import attrs
import psycopg2

from boxsched.errors import BoxschedError, StoreAway
from boxsched.store.blocks import Row
from boxsched.store.marks import Mark
from boxsched.store.postgres.connection import PostgresConnection, connect_to
from boxsched.store.postgres.marks import HISTORY, SERVER, mark

Place = Mapping[str, Any]  # libpq's parameters


@attrs.frozen(eq=False)
class Visit:
    place: Place
    connection: PostgresConnection
    mark: Mark


def shown(place: Place) -> str:
    host = place.get("host") or place.get("hostaddr") or "the local socket"
    return f"{host}:{place['port']}" if place.get("port") else str(host)


async def visited(place: Place, timeout: float) -> Visit | Exception:
    """Connect to a host; return the session, or the error."""
    try:
        async with asyncio.timeout(timeout):
            connection = await connect_to(place, timeout, SERVER)
            try:
                found = await mark_of(connection, connection.greeting)
                if found is not None:
                    connection.server = found.key
                    return Visit(place, connection, found)
                connection.close()
                return StoreAway(f"{shown(place)} is a standby")
            except BaseException:
                connection.close()
                raise
    except TimeoutError:
        return StoreAway(f"{shown(place)}: no answer within {timeout:.3g} s")
    except (psycopg2.Error, BoxschedError, OSError) as error:
        return error


async def mark_of(connection: PostgresConnection, said: list[Row]) -> Mark | None:
    """``said``: the answer to SERVER."""
    (server,) = said
    if server[0] is None or not server[3]:
        return mark(server, None)
    (found,) = await connection.execute(HISTORY)
    return mark(server, found)


def raw_mark(raw: Any) -> Mark | None:
    with raw.cursor() as cursor:
        cursor.execute(SERVER)
        server = cursor.fetchone()
        if server is None or server[0] is None:
            return None
        if not server[3]:
            return mark(server, None)
        cursor.execute(HISTORY)
        return mark(server, cursor.fetchone())
