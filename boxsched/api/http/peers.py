"""Find the client's address of a request, also behind trusted proxies."""

import ipaddress
from collections.abc import Iterable, Sequence

import attrs
from aiohttp import web

FORWARDED_FOR = "X-Forwarded-For"
FORWARDED_PROTO = "X-Forwarded-Proto"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen
class Peers:
    """``trusted``: the proxies whose forwarding headers are trusted."""

    trusted: tuple[Network, ...] = ()

    def placed(self, request: web.Request) -> web.Request:
        """Return the request with the client's address and scheme."""
        if not self.trusted:
            return request
        peer = parsed(request.remote or "")
        if peer is None or not self.trusts(peer):
            return request
        known = self.origin(request.remote or "", request.headers.getall(FORWARDED_FOR, ()))
        scheme = "https" if _https(request) else request.scheme
        if known == request.remote and scheme == request.scheme:
            return request
        return request.clone(remote=known, scheme=scheme)

    def origin(self, peer: str, forwarded: Iterable[str]) -> str:
        """Return the last address that is not a trusted proxy; earlier ones may be forged."""
        said = [one.strip() for line in forwarded for one in line.split(",")]
        known = peer
        for hop in (peer, *reversed(said)):
            address = parsed(hop)
            if address is None:
                return known
            known = str(address)
            if not self.trusts(address):
                break
        return known

    def trusts(self, address: Address) -> bool:
        return any(address in network for network in self.trusted)


def _https(request: web.Request) -> bool:
    """Whether the nearest proxy reports that the client used TLS."""
    said: Sequence[str] = request.headers.getall(FORWARDED_PROTO, ())
    return bool(said) and said[-1].rpartition(",")[2].strip().lower() == "https"


def parsed(hop: str) -> Address | None:
    """Parse ``192.0.2.1``, ``192.0.2.1:4711``, ``2001:db8::1`` or ``[2001:db8::1]:4711``."""
    if hop.startswith("["):
        hop = hop[1:].partition("]")[0]
    elif hop.count(":") == 1:
        hop = hop.partition(":")[0]
    try:
        address = ipaddress.ip_address(hop)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return address if mapped is None else mapped
