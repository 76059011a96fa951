"""Locks that all nodes of a cluster share: of each kind, one number is held at a time.

They stand for what all nodes must have in common (cluster, lock key). No row holds it: so it may
change while no node runs, and no right to write is needed.
"""

from collections.abc import Callable
from typing import Any

from boxsched.cluster.lock_sql import HOLDERS


class OtherCluster(Exception):
    """Another cluster leads under this lock key in this database: give one of them another."""

    def __init__(self) -> None:
        super().__init__(
            "another cluster leads under this lock key in this database: start one of them "
            "with another --lock-key"
        )


class OtherLockKey(Exception):
    """The cluster's other nodes have another lock key: give this one theirs."""

    def __init__(self) -> None:
        super().__init__(
            "this cluster's nodes use another --lock-key: give this node the same, or a schema of "
            "its own"
        )


def share(
    cursor: Any, what: int, mine: int, refused: type[Exception], again: Callable[[], bool]
) -> None:
    """The shared lock (``what``, ``mine``); raises ``refused`` where sessions have it of another.

    Another that is there keeps the place. Of two that come at once at least one sees the other when
    it has its own lock, as each looks behind that. The greater number goes then; the lesser looks
    for as long as ``again`` says so: the other may go, or have been in before.
    """
    if others(cursor, what, mine):
        raise refused
    cursor.execute("SELECT pg_try_advisory_lock_shared(%s, %s)", (what, mine))
    while found := others(cursor, what, mine):
        if min(found) < mine or not again():
            raise refused


def others(cursor: Any, what: int, mine: int) -> list[int]:
    """What else than ``mine`` sessions hold there."""
    cursor.execute(HOLDERS, {"what": what})
    return [number for (number,) in cursor if number != mine]
