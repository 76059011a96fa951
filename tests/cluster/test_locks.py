"""The locks of a node by themselves: what is asked of the database, and what its answers mean."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from boxsched.cluster.lock_sql import HOLDERS, PING
from boxsched.cluster.locks import TAKES_NO_WRITES, Locks, NameTaken, SessionLost
from boxsched.cluster.shared_locks import OtherCluster, OtherLockKey, others, share
from boxsched.protocol.lock_keys import LockKeys

KEYS = LockKeys.of("key", "cluster")
ME, OTHER, BACKEND = 7, 8, 100


class Database:
    """A connection and its cursor. ``holders``: the numbers that sessions hold, for each look;
    ``answers``: the rows of other statements."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.holders: dict[int, list[list[int]]] = {}
        self.answers: list[list[tuple[Any, ...]]] = []
        self.rows: list[tuple[Any, ...]] = []

    def cursor(self) -> "Database":
        return self

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *error: object) -> None: ...

    def execute(self, statement: str, values: Any) -> None:
        self.asked.append((statement, values))
        self.rows = []
        if statement == HOLDERS:
            looks = self.holders.get(values["what"], [])
            self.rows = [(number,) for number in (looks.pop(0) if looks else [])]
        elif "lock_shared" not in statement and "unlock" not in statement:
            self.rows = self.answers.pop(0)

    def fetchone(self) -> tuple[Any, ...]:
        return self.rows[0]

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self.rows

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return iter(self.rows)

    def taken(self) -> list[Any]:
        """The shared locks that were asked for."""
        return [values for statement, values in self.asked if "lock_shared" in statement]


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def locks(database: Database) -> Locks:
    return Locks(database, KEYS, ME)


def times(count: int) -> Callable[[], bool]:
    """Try again so many times."""
    left = [True] * count + [False]
    return lambda: left.pop(0)


def never() -> bool:
    raise AssertionError("it does not wait")


# --- Shared locks ---------------------------------------------------------------------------


def test_the_numbers_of_others_are_those_that_differ(database: Database) -> None:
    database.holders = {1: [[5, 7, 5, 9]]}
    assert others(database, 1, 5) == [7, 9]
    assert database.asked == [(HOLDERS, {"what": 1})]


def test_a_number_that_nobody_or_everybody_holds_is_taken(database: Database) -> None:
    database.holders = {1: [[5], [5, 5]]}
    share(database, 1, 5, OtherCluster, never)
    assert database.taken() == [(1, 5)]


def test_a_session_that_holds_another_number_wins(database: Database) -> None:
    database.holders = {1: [[9]]}
    with pytest.raises(OtherCluster):
        share(database, 1, 5, OtherCluster, never)
    assert database.taken() == []


@pytest.mark.parametrize(("found", "refused"), [([4], True), ([6], False), ([4, 6], True)])
def test_of_two_that_start_together_the_smaller_number_waits_for_the_other(
    database: Database, found: list[int], refused: bool
) -> None:
    database.holders = {1: [[], [*found, 5], [*found, 5], [5]]}
    if refused:
        with pytest.raises(OtherCluster):
            share(database, 1, 5, OtherCluster, never)
    else:
        share(database, 1, 5, OtherCluster, times(2))
        assert database.holders == {1: []}, "until the other has gone"


def test_the_smaller_number_does_not_wait_for_ever(database: Database) -> None:
    database.holders = {1: [[], [6], [6]]}
    with pytest.raises(OtherCluster):
        share(database, 1, 5, OtherCluster, times(1))
    assert database.holders == {1: []}


# --- A node's name, cluster and lock key ------------------------------------------------------


def test_a_claim_takes_the_lock_key_the_cluster_and_the_name(
    database: Database, locks: Locks
) -> None:
    database.answers = [[(True,)]]
    locks.claim(never)
    assert database.taken() == [(KEYS.lock_keys, KEYS.lock_key), (KEYS.clusters, KEYS.cluster)]
    statement, values = database.asked[-1]
    assert (statement, values) == ("SELECT pg_try_advisory_lock(%s, %s)", (KEYS.nodes, ME))


def test_a_claim_waits_for_a_lock_key_that_goes_away(database: Database, locks: Locks) -> None:
    database.holders = {KEYS.lock_keys: [[3], [3], []]}
    database.answers = [[(True,)]]
    locks.claim(times(2))
    assert len(database.taken()) == 2


def test_another_lock_key_that_stays_is_refused(database: Database, locks: Locks) -> None:
    database.holders = {KEYS.lock_keys: [[3], [3], [3]]}
    with pytest.raises(OtherLockKey, match="another --lock-key"):
        locks.claim(times(1))
    assert database.taken() == []


def test_another_cluster_is_refused_at_once(database: Database, locks: Locks) -> None:
    database.holders = {KEYS.clusters: [[3]]}
    with pytest.raises(OtherCluster, match="another cluster uses this --lock-key"):
        locks.claim(never)


def test_a_claim_waits_for_an_earlier_process_of_its_node(database: Database, locks: Locks) -> None:
    database.answers = [[(False,)], [(False,)], [(True,)]]
    locks.claim(times(2))
    assert database.answers == []
    database.answers = [[(False,)], [(False,)]]
    with pytest.raises(NameTaken, match="--name"):
        locks.claim(times(1))


# --- Shards ---------------------------------------------------------------------------------


def test_released_shards_are_unlocked(database: Database, locks: Locks) -> None:
    locks.unlock({3, 1, 2})
    ((statement, values),) = database.asked
    assert "pg_advisory_unlock" in statement
    assert values == (KEYS.shards, [1, 2, 3])


def answer(*rows: tuple[int, int, int], read_only: bool = False) -> list[tuple[Any, ...]]:
    return [(read_only, 0, BACKEND), *rows]


def test_a_ping_says_who_is_alive_and_who_leads(database: Database, locks: Locks) -> None:
    database.answers = [
        answer(
            (KEYS.nodes, ME, BACKEND), (KEYS.nodes, OTHER, 101), (KEYS.shards, 1, BACKEND),
            (KEYS.shards, 2, 101), (KEYS.shards, 3, 999), (KEYS.clusters, 5, BACKEND),
        )
    ]  # fmt: skip
    view = locks.ping((1, 4))
    assert database.asked == [
        (PING, {"shards": KEYS.shards, "nodes": KEYS.nodes, "wanted": [1, 4]})
    ]
    assert (view.me, view.nodes) == (ME, {ME, OTHER})
    assert view.leaders == {1: ME, 2: OTHER, 3: 0}, "of the third nobody knows the node"
    assert view.mine == {1}


def test_a_server_that_takes_no_writes_is_not_led_from(database: Database, locks: Locks) -> None:
    database.answers = [answer((KEYS.nodes, ME, BACKEND), read_only=True)]
    with pytest.raises(SessionLost, match=TAKES_NO_WRITES):
        locks.ping(())


@pytest.mark.parametrize(
    "rows", [[], [(KEYS.nodes, OTHER, BACKEND)], [(KEYS.nodes, ME, 101)], [(KEYS.shards, ME, 100)]]
)
def test_a_session_without_the_lock_of_its_name_is_lost(
    database: Database, locks: Locks, rows: list[tuple[int, int, int]]
) -> None:
    """Behind a proxy that pools transactions, the next one may be another session's."""
    database.answers = [answer(*rows)]
    with pytest.raises(SessionLost, match="its locks are gone"):
        locks.ping(())
