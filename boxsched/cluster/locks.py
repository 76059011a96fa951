"""Claim, list, take and release a node's advisory locks in one session. Blocking."""

from collections.abc import Callable, Collection
from typing import Any

from boxsched.cluster.lock_sql import PING
from boxsched.cluster.shared_locks import OtherCluster, OtherLockKey, others, share
from boxsched.cluster.shares import LockView
from boxsched.protocol.lock_keys import LockKeys

TAKES_NO_WRITES = "the database accepts no writes: it is a standby or set to read-only"


class NameTaken(Exception):
    """Another process has this node's name: give this node another name."""


class SessionLost(Exception):
    """The session has lost its locks."""


class Locks:
    """``raw`` is a psycopg2 connection in autocommit; ``node`` is the number of the node's name.

    Each method may also raise psycopg2.Error.
    """

    def __init__(self, raw: Any, keys: LockKeys, node: int) -> None:
        self._raw = raw
        self._keys = keys
        self._node = node

    def claim(self, again: Callable[[], bool]) -> None:
        """Take the locks that show other nodes this node's name, cluster and lock key.

        While another session holds one of them (perhaps an earlier process of this node), call
        ``again``, which waits and returns whether to try once more. Raises OtherCluster,
        OtherLockKey or NameTaken.
        """
        keys = self._keys
        with self._raw.cursor() as cursor:
            while others(cursor, keys.lock_keys, keys.lock_key) and again():
                pass
            share(cursor, keys.lock_keys, keys.lock_key, OtherLockKey, again)
            share(cursor, keys.clusters, keys.cluster, OtherCluster, again)
        while not self._is_named():
            if not again():
                raise NameTaken(
                    "another process has this node's name: its data folder was copied, or two "
                    "nodes have the same --name; give each node another name (--name)"
                )

    def _is_named(self) -> bool:
        with self._raw.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", (self._keys.nodes, self._node))
            (mine,) = cursor.fetchone()
        return bool(mine)

    def unlock(self, shards: Collection[int]) -> None:
        with self._raw.cursor() as cursor:
            cursor.execute(
                "SELECT pg_advisory_unlock(%s, number) FROM unnest(%s::int[]) AS s (number)",
                (self._keys.shards, sorted(shards)),
            )

    def ping(self, wanted: Collection[int]) -> LockView:
        """Take the locks of the ``wanted`` shards that are free; return who holds which lock.

        Raises SessionLost if the server accepts no writes, or if the locks are lost.
        """
        keys = self._keys
        with self._raw.cursor() as cursor:
            cursor.execute(
                PING, {"shards": keys.shards, "nodes": keys.nodes, "wanted": list(wanted)}
            )
            (read_only, _, backend), *rows = cursor.fetchall()
        if read_only:
            raise SessionLost(TAKES_NO_WRITES)
        node_of = {pid: number for what, number, pid in rows if what == keys.nodes}
        if node_of.get(backend) != self._node:
            raise SessionLost("its locks are gone: is there a proxy that pools transactions?")
        leaders = {number: node_of.get(pid, 0) for what, number, pid in rows if what == keys.shards}
        return LockView(self._node, frozenset(node_of.values()), leaders)
