"""Why nothing of boxsched was reached at a URL: a sentence that names the cause."""

import errno
import os
import socket
import ssl

import aiohttp
from yarl import URL

NOTHING_LISTENS = "nothing listens there"
_SILENT = "it does not answer"

_GATEWAY_STATUSES = (502, 503, 504)  # what a load balancer says for nodes that are away
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def why_not(broken: Exception, url: URL) -> str:
    """What kept a request to the URL from being answered."""
    match broken:
        case TimeoutError():
            return _SILENT
        case aiohttp.ClientConnectorError(os_error=cause):
            return _no_connection(cause, url)
        case aiohttp.ServerDisconnectedError():
            return f"it hung up without an answer: what listens there {_not_boxsched(url)}"
        case aiohttp.ClientResponseError():
            return f"it does not speak HTTP: what listens there {_not_boxsched(url)}"
        case _:
            return _line(str(broken) or type(broken).__name__)


def foreign(status: int, url: URL, location: str | None = None) -> str:
    """What an answer of 300 or more means that is not boxsched's own."""
    if status in _GATEWAY_STATUSES:
        return f"a load balancer answers at {url}, but no node behind it does ({status})"
    if status < 400 and location is not None:
        return (
            f"{url} sends elsewhere ({status}), to {_line(location)}: give the URL of the service"
        )
    return f"what answers at {url} is not boxsched ({status}): look at the URL"


def _no_connection(cause: OSError, url: URL) -> str:
    if isinstance(cause, socket.gaierror):
        if cause.errno == socket.EAI_AGAIN:
            return f"no name server says now which address {url.host} has"
        return f"the name {url.host} has no address: look at the URL"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate does not hold: {_line(cause.verify_message)}"
    if isinstance(cause, ssl.SSLError):
        if cause.reason in _NO_TLS:
            return f"it does not speak TLS there: try {_plain(url)}"
        return f"TLS is not agreed on: {_line(cause.reason or str(cause))}"
    if isinstance(cause, ConnectionResetError) and url.scheme == "https":
        return f"it hung up at the first word of TLS: if it speaks none, try {_plain(url)}"
    if isinstance(cause, TimeoutError):
        return _SILENT
    if cause.errno in _NO_WAY:
        return f"there is no way to it: {os.strerror(cause.errno)}"
    return NOTHING_LISTENS


def _not_boxsched(url: URL) -> str:
    return "is not boxsched" + (", or speaks TLS (https://)" if url.scheme == "http" else "")


def _plain(url: URL) -> str:
    plain = URL.build(scheme="http", host=url.host or "", port=url.port, path=url.path)
    return str(plain).rstrip("/")


def _line(text: str) -> str:
    """Text from outside, as it may stand in a line of ours."""
    return "".join(char if char.isprintable() else "?" for char in text)[:200]
