"""A node's advisory locks in one session: claimed, seen, taken and released. Blocking."""

from collections.abc import Callable, Collection
from typing import Any

from boxsched.cluster.lock_sql import PING
from boxsched.cluster.shared_locks import OtherCluster, OtherLockKey, others, share
from boxsched.cluster.shares import View
from boxsched.protocol.lock_keys import LockKeys

TAKES_NO_WRITES = "the database takes no writes: a standby, or set to be read-only"


class NameTaken(Exception):
    """Another process leads as this node: give it a name of its own."""


class SessionLost(Exception):
    """The session does not hold the locks that it should hold."""


class Locks:
    """``raw`` is a psycopg2 connection in autocommit; ``node`` is the number of the node's name.

    Each method may also raise psycopg2.Error.
    """

    def __init__(self, raw: Any, keys: LockKeys, node: int) -> None:
        self._raw = raw
        self._keys = keys
        self._node = node

    def claim(self, again: Callable[[], bool]) -> None:
        """Take the locks that say: this node is alive, of this cluster, and has this lock key.

        While another session holds one of them (perhaps an earlier process of this node) ``again``
        is called; it waits, and says whether to try once more. Raises OtherCluster, OtherLockKey
        or NameTaken.
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
                    "another process leads as this node: its data folder was copied, or its --name "
                    "given twice; give each node a name of its own (--name)"
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

    def ping(self, wanted: Collection[int]) -> View:
        """Take the locks of the ``wanted`` shards that are free; return who holds which lock.

        Raises SessionLost where the server takes no writes, or the locks are gone.
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
            raise SessionLost("its locks are gone: a proxy that pools transactions in between?")
        leaders = {number: node_of.get(pid, 0) for what, number, pid in rows if what == keys.shards}
        return View(self._node, frozenset(node_of.values()), leaders)
