"""A connection to Redis with redis-py, with our deadlines and without its retries.

redis-py's connections are used (URLs, TLS, passwords, the protocol), but not its client: the client
repeats commands and reconnects by itself, so its user does not learn that it missed hints.
"""

import asyncio
import contextlib
import ipaddress
import socket
import threading
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Connection
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from boxsched.cluster.breaker import DEADLINE_SECONDS, deadline
from boxsched.cluster.redis_messages import Command

TROUBLE = (RedisError, OSError, TimeoutError, EOFError)

# Bytes, numbers, lists of them, None; the error of a command is returned as a value.
Reply = Any

# The kernel of a frozen server still answers: the connection fails when it does not read data for
# this long.
_KEEPALIVE = {
    getattr(socket, name): value
    for name, value in (
        ("TCP_KEEPIDLE", 5),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", 3_000),
    )
    if hasattr(socket, name)
}


def _connection(url: str) -> AbstractConnection:
    """Raise ValueError if the URL is not valid for a Redis server."""
    options: dict[str, Any] = dict(parse_url(url))
    kind = options.pop("connection_class", Connection)
    if issubclass(kind, Connection):
        options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    options |= {
        "protocol": 2,  # supported by every server; published messages arrive as replies
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,  # the deadlines are ours
        "socket_connect_timeout": None,
        "driver_info": None,
    }
    try:
        connection: AbstractConnection = kind(**options)
    except (TypeError, RedisError) as error:
        raise ValueError(f"an option of the Redis URL cannot be used: {error}") from error
    return connection


class RedisConnection:
    """A connection that one task owns and uses for one request at a time. Close it after any
    error."""

    def __init__(self, url: str) -> None:
        self._connection = _connection(url)

    @property
    def host(self) -> str | None:
        """Return the host; None for a socket in the file system."""
        return getattr(self._connection, "host", None)

    async def open(self) -> None:
        try:
            async with deadline():
                await self._connection.connect()  # type: ignore[no-untyped-call]
        except TimeoutError as error:
            raise TimeoutError(f"no connection within {DEADLINE_SECONDS:g} s") from error

    async def close(self) -> None:
        with contextlib.suppress(*TROUBLE):  # it is gone either way
            async with deadline():
                await self._connection.disconnect()

    async def ask(self, *commands: Command, blocking: float = 0.0) -> list[Reply]:
        """Send the commands in one round trip; return their replies, errors of commands included.

        ``blocking``: seconds that the server itself may wait. Raises TimeoutError, and one of
        TROUBLE."""
        try:
            async with deadline(DEADLINE_SECONDS + blocking):
                await self._send(commands)
                return [await self._reply() for _ in commands]
        except TimeoutError as error:
            waited = DEADLINE_SECONDS + blocking
            raise TimeoutError(f"no answer within {waited:g} s") from error

    async def _send(self, commands: Sequence[Command]) -> None:
        packed = self._connection.pack_commands(commands)
        try:
            await self._connection.send_packed_command(packed)
        except RuntimeError as error:  # raised by uvloop if the connection was just reset
            raise ConnectionError(f"the connection was lost: {error}") from error

    async def news(self, seconds: float) -> Reply:
        """Return the next message of a subscribed connection, or the answer to a PING after
        ``seconds``.
        """
        heard = await self._connection.read_response(timeout=seconds)
        if heard is None:
            [heard] = await self.ask(("PING",))  # or a message; then the answer comes later
        return heard

    async def _reply(self) -> Reply:
        try:
            return await self._connection.read_response()
        except ResponseError as error:
            return error


def raise_first(replies: Sequence[Reply]) -> None:
    """Raise the first error among the replies."""
    for reply in replies:
        if isinstance(reply, ResponseError):
            raise reply


def is_foreign(reply: Reply) -> bool:
    """Whether the command failed because another program wrote to our key."""
    return isinstance(reply, ResponseError) and (
        str(reply).startswith("WRONGTYPE")
        or "last possible ID" in str(reply)  # with this entry, no other can be added
    )


class NameCheck:
    """Resolve the host's name in a separate thread, at most one at a time, before connecting.

    A name server that does not answer blocks a thread for half a minute. It would soon block all
    threads of the loop's executor, and everything else that needs them.
    """

    def __init__(self, host: str | None) -> None:
        self._host = None if host is None or _is_address(host) else host
        self._asked: asyncio.Future[None] | None = None

    async def passed(self) -> None:
        """Return once the name has an address. Raises OSError if it has none, TimeoutError if
        there is no answer yet."""
        if self._host is None:
            return
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            threading.Thread(
                target=_resolve, args=(self._host, self._asked), name="redis-name", daemon=True
            ).start()
        try:
            async with deadline():
                await asyncio.shield(self._asked)
        except TimeoutError as error:
            raise TimeoutError(f"the address of {self._host} is not known yet") from error
        finally:
            if self._asked.done():
                self._asked = None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _resolve(host: str, asked: asyncio.Future[None]) -> None:
    error: OSError | None = None
    try:
        socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as failed:
        error = failed
    except UnicodeError as failed:
        error = OSError(f"{host!r} is not a valid host name: {failed}")
    with contextlib.suppress(RuntimeError):  # the loop is closed: nothing waits for it
        asked.get_loop().call_soon_threadsafe(_answer, asked, error)


def _answer(asked: asyncio.Future[None], error: OSError | None) -> None:
    if asked.done():
        return
    if error is None:
        asked.set_result(None)
    else:
        asked.set_exception(error)
        asked.exception()  # marks the error as read, in case nothing waits for it
