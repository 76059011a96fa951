"""How many connections one address may have open: no one machine takes all there are."""

import logging
from collections import Counter
from ipaddress import ip_network

import attrs

from boxsched.api.peers import Peers, parsed

log = logging.getLogger(__name__)


@attrs.define(eq=False)
class Places:
    """``at_most`` for each address; 0 = no limit. The trusted proxies' are not counted: everybody's
    connections come through them."""

    peers: Peers
    at_most: int
    _taken: Counter[str] = attrs.field(factory=Counter, init=False)
    _told: set[str] = attrs.field(factory=set, init=False)

    def take(self, peer: str) -> str | None:
        """The name to give it back by; None where there is none left."""
        peer = _holder(peer)
        if self._taken[peer] < self.at_most:
            self._taken[peer] += 1
            return peer
        if peer not in self._told:
            self._told.add(peer)
            log.warning(
                "%s has %d connections open: more are closed (--connections-per-address; if it is "
                "a load balancer, --trusted-proxy)",
                peer,
                self.at_most,
            )
        return None

    def give_back(self, holder: str) -> None:
        self._taken[holder] -= 1
        if not self._taken[holder]:
            del self._taken[holder]
            self._told.discard(holder)

    def counts(self, peer: str) -> bool:
        address = parsed(peer)
        return self.at_most > 0 and address is not None and not self.peers.trusts(address)


def _holder(peer: str) -> str:
    """Of IPv6 the network: one machine has a /64 of addresses, at the least."""
    address = parsed(peer)
    if address is None or address.version == 4:
        return peer
    return str(ip_network((address, 64), strict=False))


NO_LIMIT = Places(Peers(), 0)
