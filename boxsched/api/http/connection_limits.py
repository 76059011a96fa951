"""Limit how many connections one address may have open.

A connection is anonymous until a request on it has a valid token. Anonymous connections may use a
small share of an address's limit. When that share is used up, a new connection replaces an
anonymous one that has kept the service waiting for some time. When the whole limit is used up, it
replaces the oldest anonymous one that keeps the service waiting or sends no request. So requests
that never end do not exclude other clients of the same address. Many workers that reconnect at the
same time are accepted, because their requests arrive.
"""

import logging
from ipaddress import ip_network
from typing import Protocol

import attrs

from boxsched.api.http.peers import Peers, parsed

log = logging.getLogger(__name__)

ANONYMOUS_SHARE = 0.1  # share of an address's connections
ANONYMOUS_AT_LEAST = 20
PATIENCE_LOOKS = 2  # before an anonymous connection beyond the share is replaced


class AnonymousConnection(Protocol):
    """A connection without a valid token so far."""

    def keeps_waiting(self, looks: int) -> bool:
        """Whether a request is incomplete or an answer unread, for ``looks`` looks.

        The looks are those of ``deadlines.DeadlineWatch``. Between two looks all received data is
        read.
        """

    @property
    def idle(self) -> bool:
        """Whether every request so far has been answered."""

    def close_for_limit(self) -> None:
        """Close the connection."""


@attrs.define(eq=False)
class _Address:
    known: int = 0
    anonymous: dict[AnonymousConnection, None] = attrs.field(factory=dict)  # in order of arrival

    @property
    def count(self) -> int:
        return self.known + len(self.anonymous)


@attrs.define(eq=False)
class ConnectionLimits:
    """At most ``at_most`` connections for each address; 0 = no limit.

    Trusted proxies are not counted, because the connections of all clients come through them.
    """

    peers: Peers
    at_most: int
    _addresses: dict[str, _Address] = attrs.field(factory=dict, init=False)
    _logged: set[str] = attrs.field(factory=set, init=False)

    @property
    def anonymous_limit(self) -> int:
        return min(self.at_most, max(ANONYMOUS_AT_LEAST, int(self.at_most * ANONYMOUS_SHARE)))

    def take(self, peer: str, connection: AnonymousConnection) -> str | None:
        """Count a connection. Return the key for ``give_back``, or None if the limit is reached."""
        name = _holder(peer)
        address = self._addresses.setdefault(name, _Address())
        if not self._has_room(address):
            self._log_limit(name)
            return None
        address.anonymous[connection] = None
        return name

    def recognize(self, holder: str, connection: AnonymousConnection) -> None:
        """Note that a valid token was sent on this connection."""
        address = self._addresses[holder]
        if connection in address.anonymous:
            del address.anonymous[connection]
            address.known += 1

    def give_back(self, holder: str, connection: AnonymousConnection, *, known: bool) -> None:
        address = self._addresses[holder]
        if known:
            address.known -= 1
        else:
            address.anonymous.pop(connection, None)  # missing if it was closed for the limit
        if not address.count:
            del self._addresses[holder]
            self._logged.discard(holder)

    def counts(self, peer: str) -> bool:
        address = parsed(peer)
        return self.at_most > 0 and address is not None and not self.peers.trusts(address)

    def _has_room(self, address: _Address) -> bool:
        full = address.count >= self.at_most
        if not full and len(address.anonymous) < self.anonymous_limit:
            return True
        patience = 0 if full else PATIENCE_LOOKS
        leaves = next((one for one in address.anonymous if one.keeps_waiting(patience)), None)
        if leaves is None and full and len(address.anonymous) > self.anonymous_limit:
            leaves = next((one for one in address.anonymous if one.idle), None)
        if leaves is None:
            return not full
        del address.anonymous[leaves]
        leaves.close_for_limit()
        return True

    def _log_limit(self, name: str) -> None:
        if name not in self._logged:
            self._logged.add(name)
            log.warning(
                "%s has %d connections open, %d without a token: more are closed "
                "(--connections-per-address; if it is a load balancer, --trusted-proxy)",
                name,
                self._addresses[name].count,
                len(self._addresses[name].anonymous),
            )


def _holder(peer: str) -> str:
    """Return the key of an address: for IPv6 the network, because a machine has at least a /64."""
    address = parsed(peer)
    if address is None or address.version == 4:
        return peer
    return str(ip_network((address, 64), strict=False))


NO_LIMIT = ConnectionLimits(Peers(), 0)
