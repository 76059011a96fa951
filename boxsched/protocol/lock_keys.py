"""The keys of a cluster's advisory locks, derived from its lock key.

PostgreSQL has advisory locks of two numbers of 32 bits. The first says what is locked, in this
cluster: so that several clusters, each with a lock key of its own, can share a database. The
second is the shard's number, or one made of the node's name or the cluster's.

That the nodes of a cluster have one lock key is seen by a lock, too, whose first number is made of
the cluster's name, the same whatever lock key a node has.
"""

import hashlib

import attrs

DEFAULT_LOCK_KEY = "BxSchLd1"


@attrs.frozen
class LockKeys:
    """``shards``, ``nodes``, ``clusters`` and ``lock_keys`` are first numbers, the others second
    ones."""

    shards: int
    nodes: int
    clusters: int
    cluster: int
    lock_keys: int
    lock_key: int

    @classmethod
    def of(cls, lock_key: str, cluster: str) -> "LockKeys":
        """``cluster`` names the database (``Store.cluster``)."""
        return cls(
            _number(lock_key, "shards"),
            _number(lock_key, "nodes"),
            _number(lock_key, "clusters"),
            _number(cluster, "cluster"),
            _number(cluster, "lock keys"),
            _number(lock_key, "lock key"),
        )


def node_number(name: str) -> int:
    """What a node is to the locks."""
    return _number(name, "node")


def _number(text: str, what: str) -> int:
    """31 bits, since PostgreSQL takes signed numbers and shows unsigned ones."""
    digest = hashlib.blake2b(f"{text}\0{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
