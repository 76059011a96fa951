"""Lock sessions on a real PostgreSQL: who gets a lock, and who loses it."""

import threading
import time
from collections.abc import Callable, Iterator

import psycopg2
import pytest

from boxsched.cluster.keys import LockKeys
from boxsched.cluster.lock_session import (
    STALL_SECONDS,
    LockSession,
    NameTaken,
    OtherCluster,
    Seen,
)
from tests.contract.postgres_server import execute

PATIENCE_SECONDS = 20.0
KEYS = LockKeys.of("test", "cluster")


class Node:
    """A lock session, and all that it told; a heart of its own ticks for it."""

    def __init__(self, url: str, number: int, keys: LockKeys = KEYS) -> None:
        self.number = number
        self.views: list[Seen] = []
        self.losses: list[str] = []
        self.failures: list[Exception] = []
        self.news = threading.Condition()
        self.beating = True
        self.session = LockSession(
            url,
            keys,
            number,
            retry_interval=0.2,
            seen=lambda seen: self._note(self.views, seen),
            lost=lambda why: self._note(self.losses, why),
            failed=lambda error: self._note(self.failures, error),
        )
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._alive = True

    def _note(self, notes: list, what: object) -> None:
        with self.news:
            notes.append(what)
            self.news.notify_all()

    def _beat(self) -> None:
        while self._alive:
            if self.beating:
                self.session.tick()
            time.sleep(0.05)

    def start(self, *shards: int) -> "Node":
        self._heart.start()
        self.session.want(shards)
        self.session.start()
        return self

    def until(self, what: Callable[["Node"], object]) -> None:
        with self.news:
            assert self.news.wait_for(lambda: what(self), PATIENCE_SECONDS), (
                self.views[-1:], self.losses, self.failures,
            )  # fmt: skip

    @property
    def mine(self) -> frozenset[int]:
        return self.views[-1].view.mine if self.views else frozenset()

    def end(self) -> None:
        self._alive = False
        self.session.end()
        self.session.join(PATIENCE_SECONDS)


@pytest.fixture
def node(url: str) -> Iterator[Callable[..., Node]]:
    made: list[Node] = []

    def start(number: int, *shards: int, keys: LockKeys = KEYS) -> Node:
        made.append(Node(url, number, keys).start(*shards))
        return made[-1]

    yield start
    for one in made:
        one.end()


def test_one_of_two_has_each_lock_and_both_see_who(node: Callable[..., Node]) -> None:
    first = node(1, 1, 2)
    first.until(lambda n: n.mine == {1, 2})
    second = node(2, 1, 2)
    second.until(lambda n: n.views)
    assert second.mine == frozenset()
    assert second.views[-1].view.leaders == {1: 1, 2: 1}
    first.until(lambda n: n.views[-1].view.nodes == {1, 2})


def test_what_is_released_goes_to_the_other(node: Callable[..., Node]) -> None:
    first = node(1, 1, 2)
    first.until(lambda n: n.mine == {1, 2})
    second = node(2, 1, 2)
    first.session.want((1,))
    first.session.release(2)
    second.until(lambda n: n.mine == {2})
    first.until(lambda n: n.mine == {1})


def test_an_ended_session_lets_go_of_all_at_once(node: Callable[..., Node]) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    second = node(2, 1)
    second.until(lambda n: n.views)
    first.end()
    second.until(lambda n: n.mine == {1})
    assert second.views[-1].view.nodes == {2}


def test_a_lock_is_never_nested(node: Callable[..., Node], url: str) -> None:
    first = node(1, 1)
    first.until(lambda n: len(n.views) > 5 and n.mine == {1})
    first.session.want(())
    first.session.release(1)
    first.until(lambda n: n.mine == frozenset())


def test_a_loop_that_stands_still_leads_nothing(node: Callable[..., Node]) -> None:
    """The thread would go on pinging: a leader that decides nothing, and lets nobody else."""
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    second = node(2, 1)
    first.beating = False
    first.until(lambda n: n.losses)
    assert f"{int(STALL_SECONDS)}" in first.losses[0] and "stood still" in first.losses[0]
    second.until(lambda n: n.mine == {1})
    first.beating = True
    seen = len(first.views)
    first.until(lambda n: len(n.views) > seen)  # it is back, and leads nothing
    assert first.mine == frozenset()


def test_a_killed_backend_is_noticed_and_the_session_is_back(
    node: Callable[..., Node], url: str
) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'boxsched leader' AND datname = current_database()",
    )
    first.until(lambda n: n.losses)
    seen = len(first.views)
    first.until(lambda n: len(n.views) > seen and n.mine == {1})


def test_a_silent_session_is_ended_by_the_server(node: Callable[..., Node], url: str) -> None:
    """As where its process is frozen: only the server can tell, and TCP would not for hours."""
    silent = psycopg2.connect(url)
    silent.autocommit = True
    with silent.cursor() as cursor:
        cursor.execute("SET idle_session_timeout = '1s'")
        cursor.execute("SELECT pg_advisory_lock(%s, 1)", (KEYS.shards,))
    second = node(2, 1)
    second.until(lambda n: n.mine == {1})
    silent.close()


def test_a_second_node_of_one_name_is_refused(
    node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.cluster.lock_session.CLAIM_SECONDS", 0.3)
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    clone = node(1, 1)
    clone.until(lambda n: n.failures)
    assert isinstance(clone.failures[0], NameTaken)


def test_two_clusters_under_one_lock_key_are_refused(node: Callable[..., Node]) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    other = node(7, 2, keys=LockKeys.of("test", "another cluster"))
    other.until(lambda n: n.failures)
    assert isinstance(other.failures[0], OtherCluster)


def test_two_clusters_under_two_lock_keys_live_side_by_side(node: Callable[..., Node]) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    other = node(1, 1, keys=LockKeys.of("test-2", "another cluster"))
    other.until(lambda n: n.mine == {1})
    first.until(lambda n: n.mine == {1})
