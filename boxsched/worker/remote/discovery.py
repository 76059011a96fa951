"""Find the nodes: the configured URLs and their addresses in the DNS.

The DNS is queried repeatedly. ``https://10.0.0.1:8080`` is one node. ``https://nodes.example.org``
is one node for each address of the name (A, AAAA). ``srv+https://_boxsched._tcp.example.org`` is
one node for each SRV record, with its port, priority and weight (RFC 2782). A node's certificate
must be for the name, not for the address.
"""

import asyncio
import ipaddress
import logging
import random
import socket
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

import attrs
from yarl import URL

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as DnsResolver

ASK_AGAIN_SECONDS = 30.0
DNS_PATIENCE_SECONDS = 5.0
MAX_NODES = 1_000  # limit for all names together
_SRV = "srv+"

_log = logging.getLogger(__name__)


class NotFound(Exception):
    """The DNS has no answer for the name now; it may have one later."""


@attrs.frozen
class NodeAddress:
    """One node: its URL, and one address of the URL's host name; None if the URL has an address."""

    url: URL
    ip: str | None = None
    priority: int = 0  # the lowest is tried first
    weight: int = 1  # how likely it is chosen among nodes of equal priority

    def __str__(self) -> str:
        return str(self.url) if self.ip is None else f"{self.url} ({self.ip})"


@attrs.frozen
class Source:
    """One ``--url``."""

    url: URL
    srv: bool

    def __str__(self) -> str:
        return f"{_SRV}{self.url}" if self.srv else str(self.url)


@attrs.frozen
class Service:
    """An SRV record."""

    priority: int
    weight: int
    port: int
    target: str


class Names(Protocol):
    """Resolves names. Both methods raise NotFound."""

    async def addresses(self, host: str) -> Sequence[str]: ...

    async def services(self, name: str) -> Sequence[tuple[Service, Sequence[str]]]:
        """Return the SRV records, with the addresses of their targets."""


def parse_source(text: str) -> Source:
    """Parse one ``--url``. Raises ValueError with a message for the user."""
    srv = text.startswith(_SRV)
    try:
        url = URL(text.removeprefix(_SRV))
        port = url.explicit_port
    except ValueError:
        raise ValueError(f"{text!r} is not a URL") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(
            f"{text!r} is not http(s)://HOST[:PORT] or srv+http(s)://_NAME._tcp.DOMAIN"
        )
    if url.user or url.password or url.query_string or url.fragment:
        raise ValueError(
            f"{text!r}: only host, port and path are allowed; pass the token separately"
        )
    if srv and port is not None:
        raise ValueError(f"{text!r}: omit the port; SRV records contain it")
    return Source(url.with_path(url.path.rstrip("/")), srv)


class Discovery:
    """The known nodes. ``run`` queries the DNS again; if that fails, the last answer stays."""

    def __init__(self, sources: Iterable[Source], names: Names) -> None:
        self._names = names
        self._found: dict[Source, tuple[NodeAddress, ...]] = dict.fromkeys(sources, ())
        self._failed: set[Source] = set()

    @property
    def nodes(self) -> tuple[NodeAddress, ...]:
        each = dict.fromkeys(node for found in self._found.values() for node in found)
        return tuple(each)[:MAX_NODES]

    async def refresh(self) -> None:
        """Resolve every name once."""
        await asyncio.gather(*(self._ask(source) for source in self._found))

    async def run(self) -> None:
        while True:
            await asyncio.sleep(ASK_AGAIN_SECONDS)
            await self.refresh()

    async def _ask(self, source: Source) -> None:
        try:
            found = tuple(await self.resolve(source))
        except NotFound as error:
            if source not in self._failed:
                _log.warning("%s: %s; trying again", source, error)
            self._failed.add(source)
            return
        self._failed.discard(source)
        self._found[source] = found

    async def resolve(self, source: Source) -> list[NodeAddress]:
        """Return the nodes of one ``--url`` now. Raises NotFound."""
        url = source.url
        assert url.host is not None
        if not source.srv:
            if _is_address(url.host):
                return [NodeAddress(url)]
            return [NodeAddress(url, ip) for ip in await self._names.addresses(url.host)]
        return [
            NodeAddress(
                url.with_host(service.target).with_port(service.port),
                ip,
                service.priority,
                service.weight,
            )
            for service, ips in await self._names.services(url.host)
            for ip in ips
        ]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Choice:
    """Chooses the next node to try: each node once in a random order, then all of them again."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._round: list[NodeAddress] = []

    def next(self, nodes: Sequence[NodeAddress], last: NodeAddress | None) -> NodeAddress:
        """Return one of ``nodes``; ``last``, whose connection ended, only if it is the only one."""
        left = [node for node in self._round if node in nodes]
        if not left:
            left = sorted(nodes, key=self._rank)
            if len(left) > 1 and last in left:
                left.remove(last)
        self._round = left[1:]
        return left[0]

    def settled(self) -> None:
        """Begin a new round: a node has accepted the worker."""
        self._round = []

    def _rank(self, node: NodeAddress) -> tuple[int, float]:
        # A race of exponential clocks: a node with twice the weight comes first twice as often.
        return node.priority, self._chance.expovariate(max(node.weight, 0.01))


class SystemNames:
    """Resolves names as this machine does (hosts file, DNS), and SRV records only by the DNS."""

    def __init__(self, dns: "DnsResolver | None" = None) -> None:
        self._dns = dns

    async def addresses(self, host: str) -> list[str]:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(DNS_PATIENCE_SECONDS):
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:  # a TimeoutError is an OSError
            raise NotFound(f"the name has no address ({error or 'no answer'})") from None
        return list(dict.fromkeys(str(address[0]) for *_, address in found))

    async def services(self, name: str) -> list[tuple[Service, Sequence[str]]]:
        from dns.exception import DNSException

        try:
            dns = self._resolver()
            answer = await dns.resolve(name, "SRV", lifetime=DNS_PATIENCE_SECONDS)
            services = [
                Service(record.priority, record.weight, record.port, record.target.to_text(True))
                for record in answer
            ]
            found = await asyncio.gather(*(self._targets(dns, service) for service in services))
        except (DNSException, OSError) as error:
            raise NotFound(f"no SRV records ({error})") from None
        if not any(found):
            raise NotFound("none of its SRV records has an address")
        return list(zip(services, found, strict=True))

    async def _targets(self, dns: "DnsResolver", service: Service) -> list[str]:
        from dns.exception import DNSException

        if service.target == "":  # RFC 2782: "decidedly not available"
            return []
        try:
            answers = await dns.resolve_name(service.target, lifetime=DNS_PATIENCE_SECONDS)
        except DNSException:
            return []  # other targets may have an address
        return list(answers.addresses())

    def _resolver(self) -> "DnsResolver":
        from dns.asyncresolver import Resolver

        if self._dns is None:
            self._dns = Resolver()
        return self._dns
