"""Shared locks of all nodes of a cluster: all must hold the same number of each kind.

They represent values that all nodes must have in common (cluster, lock key). No row stores the
values, so they can change while no node runs, and no right to write is needed.
"""

from collections.abc import Callable
from typing import Any

from boxsched.cluster.lock_sql import HOLDERS


class OtherCluster(Exception):
    """Another cluster uses this lock key in this database: give one of them another key."""

    def __init__(self) -> None:
        super().__init__(
            "another cluster uses this --lock-key in this database: start one of them with "
            "another --lock-key"
        )


class OtherLockKey(Exception):
    """The cluster's other nodes use another lock key: give this node the same."""

    def __init__(self) -> None:
        super().__init__(
            "this cluster's nodes use another --lock-key: give this node the same, or a schema of "
            "its own"
        )


def share(
    cursor: Any, what: int, mine: int, refused: type[Exception], again: Callable[[], bool]
) -> None:
    """Take the shared lock (``what``, ``mine``). Raises ``refused`` if sessions hold another
    number.

    A session that already holds another number wins. Of two that start at the same time at least
    one sees the other, because each looks after it has taken its own lock. Then the one with the
    greater number gives up. The one with the smaller number looks again as long as ``again``
    returns true, because the other may end or may have been first.
    """
    if others(cursor, what, mine):
        raise refused
    cursor.execute("SELECT pg_try_advisory_lock_shared(%s, %s)", (what, mine))
    while found := others(cursor, what, mine):
        if min(found) < mine or not again():
            raise refused


def others(cursor: Any, what: int, mine: int) -> list[int]:
    """Return the numbers other than ``mine`` that sessions hold."""
    cursor.execute(HOLDERS, {"what": what})
    return [number for (number,) in cursor if number != mine]
