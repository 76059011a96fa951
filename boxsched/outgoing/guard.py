"""Allow requests only to public addresses and to hosts that the operator allowed.

The address of each connection's socket is checked. So a name that resolves to another address a
moment later, or an address in an unusual notation (decimal, octal), cannot bypass the check.
"""

import asyncio
import functools
import ipaddress
import re
import socket
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from boxsched.errors import BoxschedError, Invalid

TOTAL_SECONDS = 5.0  # for one request, from resolving the name to the end of the answer
RESOLVING_AT_ONCE = 32  # different names
CONNECTIONS = 64
REFUSED = (
    "its host has a private, local or reserved address: to allow requests to it, start every node "
    "with --allow-outgoing {host}"
)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Lookup = Callable[..., list[tuple[Any, ...]]]
_Name = tuple[str, socket.AddressFamily]

# In addition to what ``is_global`` excludes, which depends on the version of Python.
_NETWORKS = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "168.63.129.16/32",  # internal services of a cloud at a public address
        "::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "3fff::/20",
        "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NUMBERS = re.compile(r"[0-9a-fx]+(\.[0-9a-fx]+){0,3}", re.ASCII)  # inet_aton accepts more
_LIKE_AN_ADDRESS = re.compile(r"[0-9.]+", re.ASCII)  # such names do not exist


class AddressRefused(BoxschedError):
    """Requests to this address are not allowed: the operator must allow the host."""

    code, status = "address_refused", 422


def is_public(address: Address) -> bool:
    """Whether requests to the address are allowed by default.

    An IPv6 address that represents an IPv4 address is treated like that address.
    """
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded(address)
        if inner is not None:
            return is_public(inner)
    if address.is_multicast or address.is_unspecified or address.is_reserved:
        return False
    return address.is_global and not any(
        address in network for network in _NETWORKS if network.version == address.version
    )


def _embedded(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def address_of(host: str) -> Address | None:
    """Return the address that a host is, in any notation that a resolver reads; None: a name.

    Examples are ``127.1``, ``0x7f.1`` and ``2130706433``, which are all 127.0.0.1.
    """
    text = host.strip().lower().rstrip(".").removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(text)) if _NUMBERS.fullmatch(text) else None
    except OSError:
        return None


def canonical_host(text: str) -> str:
    """Return a host in the form for comparison: lower case, no final dot; addresses normalized."""
    address = address_of(text)
    return text.strip().lower().rstrip(".") if address is None else str(address)


def check_host(host: str, allowed: Collection[str], field: str) -> None:
    """Raise Invalid for an address to which no request can be sent. Names are not looked up."""
    address = address_of(host)
    if address is None:
        if _LIKE_AN_ADDRESS.fullmatch(host):
            raise Invalid(f"its host {host} is neither a name nor a valid address", field)
        return
    plain = str(address)
    if not is_public(address) and plain not in {canonical_host(each) for each in allowed}:
        raise Invalid(REFUSED.format(host=plain), field)
    if address.version == 4 and host != plain:
        raise Invalid(f"write its host {host} as {plain}", field)


class _Resolver(AbstractResolver):
    """Resolves names in its own threads, so that a slow look-up delays only requests.

    Requests that need the same name at the same time share one look-up. So a name whose server
    hangs holds one thread, and not those of other names.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._threads = ThreadPoolExecutor(RESOLVING_AT_ONCE, "outgoing-names")
        self._under_way: dict[_Name, asyncio.Future[list[tuple[Any, ...]]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        name = host, family
        if name not in self._under_way:
            loop = asyncio.get_running_loop()
            asked = host, port, family, socket.SOCK_STREAM
            future = loop.run_in_executor(self._threads, self._lookup, *asked)
            self._under_way[name] = future
            future.add_done_callback(functools.partial(self._done, name))
        # Shielded, so that a request that is cut does not cut the look-up of the others.
        found = await asyncio.shield(self._under_way[name])
        return [
            ResolveResult(
                hostname=host,
                host=address[0],
                port=port,
                family=family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, proto, _, address in found
        ]

    def _done(self, name: _Name, future: asyncio.Future[list[tuple[Any, ...]]]) -> None:
        del self._under_way[name]
        if not future.cancelled():
            future.exception()  # seen, also where every request was cut before

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


class AddressGuard:
    """Connections for requests: one pool for allowed hosts, one for all others."""

    def __init__(self, allowed: Collection[str], lookup: Lookup = socket.getaddrinfo) -> None:
        self._allowed = {canonical_host(host) for host in allowed}
        self._resolver = _Resolver(lookup)
        self._public = self._session(_public_socket)
        self._any = self._session(None)

    def session(self, url: URL) -> aiohttp.ClientSession:
        """Return the session for a request to this URL.

        The request raises AddressRefused if its address is not allowed.
        """
        host = canonical_host(url.host or "")
        return self._any if host in self._allowed else self._public

    async def close(self) -> None:
        await self._public.close()
        await self._any.close()
        await self._resolver.close()

    def _session(self, factory: Any) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            limit=CONNECTIONS,
            happy_eyeballs_delay=None,  # one address after another: a refusal ends the request
            socket_factory=factory,
        )
        return aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=TOTAL_SECONDS),
            trust_env=False,  # no proxies from the environment
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )


def _public_socket(info: tuple[Any, ...]) -> socket.socket:
    """Make a socket for the address of the next connection. Raises AddressRefused."""
    family, kind, protocol, _, address = info
    text = str(address[0]).partition("%")[0]
    if not is_public(ipaddress.ip_address(text)):
        raise AddressRefused("the address is not public")
    return socket.socket(family, kind, protocol)
