"""The keys of a cluster's advisory locks, derived from its lock key.

An advisory lock of PostgreSQL has two numbers of 32 bits. The first number says what kind of thing
is locked, and in which cluster: so several clusters, each with its own lock key, can share a
database. The second number is the shard's number, or a number made from the name of the node or of
the cluster.

One more lock shows whether all nodes of a cluster have the same lock key. Its first number is made
from the cluster's name, so it does not depend on a node's lock key.
"""

import hashlib

import attrs

DEFAULT_LOCK_KEY = "BxSchLd1"


@attrs.frozen
class LockKeys:
    """``shards``, ``nodes``, ``clusters`` and ``lock_keys`` are first numbers of locks. ``cluster``
    and ``lock_key`` are second numbers."""

    shards: int
    nodes: int
    clusters: int
    cluster: int
    lock_keys: int
    lock_key: int

    @classmethod
    def of(cls, lock_key: str, cluster: str) -> "LockKeys":
        """Return the keys for a lock key and a database, which ``Store.cluster`` names."""
        return cls(
            _number(lock_key, "shards"),
            _number(lock_key, "nodes"),
            _number(lock_key, "clusters"),
            _number(cluster, "cluster"),
            _number(cluster, "lock keys"),
            _number(lock_key, "lock key"),
        )


def node_number(name: str) -> int:
    """Return the number that stands for a node in its lock."""
    return _number(name, "node")


def _number(text: str, what: str) -> int:
    """Return 31 bits, because PostgreSQL takes signed numbers and shows unsigned ones."""
    digest = hashlib.blake2b(f"{text}\0{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
