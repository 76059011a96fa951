"""A service's sockets. They are bound first, so that a start that cannot listen changes nothing."""

import contextlib
import os
import socket
from collections.abc import Iterator

import attrs
from aiohttp import web

# Connections that may wait until they are accepted. The kernel drops what comes beyond them, and
# clients try again after a second.
WAITING = 1_024


@attrs.frozen
class Bound:
    """Bound sockets. Nobody gets an answer before ``serve``, which may be called again with another
    runner.
    """

    url: str
    _sockets: tuple[socket.socket, ...]

    async def serve(self, runner: web.BaseRunner) -> None:
        for each in self._sockets:
            await web.SockSite(runner, each.dup()).start()  # closed with its runner
            # It listens again, with a number that also limits how many it accepts at a time.
            each.listen(WAITING)


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[Bound]:
    """Bind sockets at each address of the host; port 0 picks a free one. Raises OSError."""
    with contextlib.ExitStack() as opened:
        sockets = []
        for family, kind, protocol, _, address in _addresses(host, port):
            made = opened.enter_context(socket.socket(family, kind, protocol))
            if os.name == "posix":
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(address)
            # otherwise another service could bind it too; clients that connect now wait
            made.listen(WAITING)
            made.setblocking(False)
            sockets.append(made)
        yield Bound(_url(sockets[0]), tuple(sockets))


def _addresses(host: str, port: int) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    try:
        host.encode("idna")
    except UnicodeError:  # a part of the name is empty or too long
        raise socket.gaierror(socket.EAI_NONAME, "not a valid host name") from None
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return list(dict.fromkeys(found))


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
