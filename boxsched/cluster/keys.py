"""The keys of a cluster's advisory locks, derived from its lock key.

PostgreSQL has advisory locks of two numbers of 32 bits. The first says what is locked, in this
cluster: so that several clusters, each with a lock key of its own, can share a database. The
second is the shard's number, or one made of the node's name or the cluster's.
"""

import hashlib

import attrs

DEFAULT_LOCK_KEY = "BxSchLd1"


@attrs.frozen
class LockKeys:
    """``shards``, ``nodes`` and ``clusters`` are first numbers, ``cluster`` a second one."""

    shards: int
    nodes: int
    clusters: int
    cluster: int

    @classmethod
    def of(cls, lock_key: str, cluster: str) -> "LockKeys":
        """``cluster`` names the database (``Store.cluster``)."""
        return cls(
            _number(lock_key, "shards"),
            _number(lock_key, "nodes"),
            _number(lock_key, "clusters"),
            _number(cluster, "cluster"),
        )


def node_number(name: str) -> int:
    """What a node is to the locks."""
    return _number(name, "node")


def _number(text: str, what: str) -> int:
    """31 bits, since PostgreSQL takes signed numbers and shows unsigned ones."""
    digest = hashlib.blake2b(f"{text}\0{what}".encode(), digest_size=4).digest()
    return int.from_bytes(digest) >> 1
