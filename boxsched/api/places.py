"""How many connections one address may have open: no one machine takes all there are."""

import logging
from collections import Counter

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

    def take(self, peer: str) -> bool:
        """Whether there is one; what was taken is to be given back."""
        if self._taken[peer] < self.at_most:
            self._taken[peer] += 1
            return True
        if peer not in self._told:
            self._told.add(peer)
            log.warning(
                "%s has %d connections open: more are closed (--connections-per-address; if it is "
                "a load balancer, --trusted-proxy)",
                peer,
                self.at_most,
            )
        return False

    def give_back(self, peer: str) -> None:
        self._taken[peer] -= 1
        if not self._taken[peer]:
            del self._taken[peer]
            self._told.discard(peer)

    def counts(self, peer: str) -> bool:
        address = parsed(peer)
        return self.at_most > 0 and address is not None and not self.peers.trusts(address)


NO_LIMIT = Places(Peers(), 0)
