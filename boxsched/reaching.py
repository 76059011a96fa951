"""Explain why boxsched was not reached at a URL."""

import errno
import os
import socket
import ssl

import aiohttp
from yarl import URL

NOTHING_LISTENS = "nothing listens there"
_SILENT = "it does not answer"

_GATEWAY_STATUSES = (502, 503, 504)  # a load balancer's status when no node answers
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
_NO_WAY = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN})


def why_not(broken: Exception, url: URL) -> str:
    """Return the reason why a request to the URL got no answer."""
    match broken:
        case TimeoutError():
            return _SILENT
        case aiohttp.ClientConnectorError(os_error=cause):
            return _no_connection(cause, url)
        case aiohttp.ServerDisconnectedError():
            return f"the connection was closed without an answer: the server {_not_boxsched(url)}"
        case aiohttp.ClientResponseError():
            return f"the answer is not HTTP: the server {_not_boxsched(url)}"
        case _:
            return _line(str(broken) or type(broken).__name__)


def foreign(status: int, url: URL, location: str | None = None) -> str:
    """Explain an answer with status 300 or more that is not from boxsched."""
    if status in _GATEWAY_STATUSES:
        return f"a load balancer answers at {url}, but none of its nodes ({status})"
    if status < 400 and location is not None:
        return f"{url} redirects ({status}) to {_line(location)}: give the URL of the service"
    return f"the server at {url} is not boxsched ({status}): check the URL"


def _no_connection(cause: OSError, url: URL) -> str:
    if isinstance(cause, socket.gaierror):
        if cause.errno == socket.EAI_AGAIN:
            return f"no name server can resolve {url.host} at the moment"
        return f"the name {url.host} has no address: check the URL"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {_line(cause.verify_message)}"
    if isinstance(cause, ssl.SSLError):
        if cause.reason in _NO_TLS:
            return f"the server does not use TLS: try {_plain(url)}"
        return f"the TLS handshake failed: {_line(cause.reason or str(cause))}"
    if isinstance(cause, ConnectionResetError) and url.scheme == "https":
        return (
            "the connection was closed during the TLS handshake: if the server does not use TLS, "
            f"try {_plain(url)}"
        )
    if isinstance(cause, TimeoutError):
        return _SILENT
    if cause.errno in _NO_WAY:
        return f"it cannot be reached: {os.strerror(cause.errno)}"
    return NOTHING_LISTENS


def _not_boxsched(url: URL) -> str:
    return "is not boxsched" + (", or uses TLS (https://)" if url.scheme == "http" else "")


def _plain(url: URL) -> str:
    plain = URL.build(scheme="http", host=url.host or "", port=url.port, path=url.path)
    return str(plain).rstrip("/")


def _line(text: str) -> str:
    """Escape and shorten a text from outside."""
    return "".join(char if char.isprintable() else "?" for char in text)[:200]
