"""Limits how many connections one address may have open.

A connection on which no valid token was shown is a stranger. Strangers may use a small share of
the places of an address. When that share is used up, a new connection takes the place of a stranger
that has kept the service waiting for some time. When all places are used up, it takes the place of
the oldest stranger that keeps the service waiting or sends no request. So requests that never end
do not shut out other clients behind the same address, and many workers that come back at once are
let in, because their requests arrive.
"""

import logging
from ipaddress import ip_network
from typing import Protocol

import attrs

from boxsched.api.http.peers import Peers, parsed

log = logging.getLogger(__name__)

STRANGERS_SHARE = 0.1  # of an address' places
STRANGERS_AT_LEAST = 20
PATIENCE_LOOKS = 2  # with strangers beyond their share, while there are places


class AnonymousConnection(Protocol):
    """A connection on which no valid token was shown yet."""

    def keeps_waiting(self, looks: int) -> bool:
        """Whether a request is incomplete or an answer unread, and was at each of the last
        ``looks`` looks of ``deadlines.Watch``. Between two looks everything received is read."""

    @property
    def idle(self) -> bool:
        """Whether every request so far has been answered."""

    def put_out(self) -> None:
        """Close the connection."""


@attrs.define(eq=False)
class _Address:
    known: int = 0
    strangers: dict[AnonymousConnection, None] = attrs.field(factory=dict)  # in order of arrival

    @property
    def count(self) -> int:
        return self.known + len(self.strangers)


@attrs.define(eq=False)
class Places:
    """At most ``at_most`` connections an address; 0 = no limit. Those of trusted proxies are not
    counted, because every client's connections come through them."""

    peers: Peers
    at_most: int
    _addresses: dict[str, _Address] = attrs.field(factory=dict, init=False)
    _told: set[str] = attrs.field(factory=set, init=False)

    @property
    def of_strangers(self) -> int:
        return min(self.at_most, max(STRANGERS_AT_LEAST, int(self.at_most * STRANGERS_SHARE)))

    def take(self, peer: str, stranger: AnonymousConnection) -> str | None:
        """Take a place. Return the key to give it back with, or None if none is left."""
        name = _holder(peer)
        address = self._addresses.setdefault(name, _Address())
        if not self._has_room(address):
            self._tell(name)
            return None
        address.strangers[stranger] = None
        return name

    def recognise(self, holder: str, stranger: AnonymousConnection) -> None:
        """A valid token was shown on this connection."""
        address = self._addresses[holder]
        if stranger in address.strangers:
            del address.strangers[stranger]
            address.known += 1

    def give_back(self, holder: str, stranger: AnonymousConnection, *, known: bool) -> None:
        address = self._addresses[holder]
        if known:
            address.known -= 1
        else:
            address.strangers.pop(stranger, None)  # not there if it was put out
        if not address.count:
            del self._addresses[holder]
            self._told.discard(holder)

    def counts(self, peer: str) -> bool:
        address = parsed(peer)
        return self.at_most > 0 and address is not None and not self.peers.trusts(address)

    def _has_room(self, address: _Address) -> bool:
        full = address.count >= self.at_most
        if not full and len(address.strangers) < self.of_strangers:
            return True
        patience = 0 if full else PATIENCE_LOOKS
        leaves = next((one for one in address.strangers if one.keeps_waiting(patience)), None)
        if leaves is None and full and len(address.strangers) > self.of_strangers:
            leaves = next((one for one in address.strangers if one.idle), None)
        if leaves is None:
            return not full
        del address.strangers[leaves]
        leaves.put_out()
        return True

    def _tell(self, name: str) -> None:
        if name not in self._told:
            self._told.add(name)
            log.warning(
                "%s has %d connections open, %d without a token: more are closed "
                "(--connections-per-address; if it is a load balancer, --trusted-proxy)",
                name,
                self._addresses[name].count,
                len(self._addresses[name].strangers),
            )


def _holder(peer: str) -> str:
    """Of IPv6 the network: one machine has a /64 of addresses, at the least."""
    address = parsed(peer)
    if address is None or address.version == 4:
        return peer
    return str(ip_network((address, 64), strict=False))


NO_LIMIT = Places(Peers(), 0)
