"""Lock sessions on a real PostgreSQL: which session gets a lock, and which loses it."""

import threading
from collections.abc import Callable, Iterator
from typing import cast

import psycopg2
import pytest

from boxsched.cluster import lock_session
from boxsched.cluster.lock_session import PING_SECONDS, STALL_SECONDS, LockSession
from boxsched.cluster.locks import Locks, NameTaken, SessionLost
from boxsched.cluster.shared_locks import OtherCluster, OtherLockKey
from boxsched.protocol.lock_keys import LockKeys
from tests.cluster.conftest import KEYS, PATIENCE_SECONDS, RecordingLockSession
from tests.contract.postgres_server import execute


def end_sessions(url: str) -> None:
    execute(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'boxsched leader' AND datname = current_database()",
    )


@pytest.fixture
def node(url: str) -> Iterator[Callable[..., RecordingLockSession]]:
    made: list[RecordingLockSession] = []

    def start(number: int, *shards: int, keys: LockKeys = KEYS) -> RecordingLockSession:
        made.append(RecordingLockSession(url, number, keys).start(*shards))
        return made[-1]

    yield start
    for one in made:
        one.end()


def test_one_of_two_nodes_has_each_lock_and_both_see_which(
    node: Callable[..., RecordingLockSession],
) -> None:
    first = node(1, 1, 2)
    first.until(lambda n: n.mine == {1, 2})
    second = node(2, 1, 2)
    second.until(lambda n: n.views)
    assert second.mine == frozenset()
    assert second.views[-1].view.leaders == {1: 1, 2: 1}
    first.until(lambda n: n.views[-1].view.nodes == {1, 2})


def test_a_released_lock_goes_to_the_other_node(node: Callable[..., RecordingLockSession]) -> None:
    first = node(1, 1, 2)
    first.until(lambda n: n.mine == {1, 2})
    second = node(2, 1, 2)
    first.session.want((1,))
    first.session.release(2)
    second.until(lambda n: n.mine == {2})
    first.until(lambda n: n.mine == {1})


def test_an_ended_session_releases_everything_at_once(
    node: Callable[..., RecordingLockSession],
) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    second = node(2, 1)
    second.until(lambda n: n.views)
    first.end()
    second.until(lambda n: n.mine == {1})
    assert second.views[-1].view.nodes == {2}


def test_a_lock_is_never_nested(node: Callable[..., RecordingLockSession], url: str) -> None:
    first = node(1, 1)
    first.until(lambda n: len(n.views) > 5 and n.mine == {1})
    first.session.want(())
    first.session.release(1)
    first.until(lambda n: n.mine == frozenset())


class OnlyNudged(threading.Event):
    """Waits until it is set, without a time limit."""

    def wait(self, timeout: float | None = None) -> bool:
        return super().wait(2 * PATIENCE_SECONDS)


def test_a_want_a_release_and_an_end_do_not_wait_for_the_next_ping(url: str) -> None:
    one = RecordingLockSession(url, 1)
    one.session._nudged = OnlyNudged()
    one.start(1)
    one.until(lambda n: n.mine == {1})
    one.session.want((1, 2))
    one.until(lambda n: n.mine == {1, 2})
    seen = len(one.views)
    one.session.want((1,))
    one.until(lambda n: len(n.views) > seen)
    one.session.release(2)
    one.until(lambda n: n.mine == {1})
    one.end()
    assert not one.session._thread.is_alive()


def test_pings_begin_at_equal_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long one takes; the next one begins at once after a slow one."""
    now, waits, took = [100.0], [], [0.0, 0.04, 0.1, 5.0]
    session = LockSession(
        "postgresql://nobody@127.0.0.1:1/none", KEYS, 1,
        retry_interval=1.0, seen=lambda result: None, lost=print, failed=print,
    )  # fmt: skip

    class Nudged(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if not took:
                session._ending.set()
            return False

    def ping(locks: Locks) -> float:
        began = now[0]
        now[0] += took.pop(0)
        return began

    monkeypatch.setattr(lock_session, "clock", lambda: now[0])
    session._nudged = Nudged()
    monkeypatch.setattr(session, "_ping", ping)
    session._lead(cast(Locks, None))
    assert waits == pytest.approx([PING_SECONDS, PING_SECONDS - 0.04, 0.0, 0.0])


def test_a_blocked_loop_leads_nothing(node: Callable[..., RecordingLockSession]) -> None:
    """The thread would keep pinging for a leader that decides nothing and blocks all others."""
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    second = node(2, 1)
    first.beating = False
    first.until(lambda n: n.losses)
    assert f"{int(STALL_SECONDS)}" in first.losses[0] and "was blocked" in first.losses[0]
    second.until(lambda n: n.mine == {1})
    first.beating = True
    seen = len(first.views)
    first.until(lambda n: len(n.views) > seen)  # it runs again, and leads nothing
    assert first.mine == frozenset()


def test_a_killed_backend_is_noticed_and_the_session_reconnects(
    node: Callable[..., RecordingLockSession], url: str
) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    end_sessions(url)
    first.until(lambda n: n.losses)
    seen = len(first.views)
    first.until(lambda n: len(n.views) > seen and n.mine == {1})


def test_a_silent_session_is_ended_by_the_server(
    node: Callable[..., RecordingLockSession], url: str
) -> None:
    """As for a frozen process: only the server notices quickly, and TCP would take hours."""
    silent = psycopg2.connect(url)
    silent.autocommit = True
    with silent.cursor() as cursor:
        cursor.execute("SET idle_session_timeout = '1s'")
        cursor.execute("SELECT pg_advisory_lock(%s, 1)", (KEYS.shards,))
    second = node(2, 1)
    second.until(lambda n: n.mine == {1})
    silent.close()


def test_a_second_node_of_one_name_is_refused(
    node: Callable[..., RecordingLockSession], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.cluster.lock_session.CLAIM_SECONDS", 0.3)
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    clone = node(1, 1)
    clone.until(lambda n: n.failures)
    assert isinstance(clone.failures[0], NameTaken)


def test_two_clusters_under_one_lock_key_are_refused(
    node: Callable[..., RecordingLockSession],
) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    other = node(7, 2, keys=LockKeys.of("test", "another cluster"))
    other.until(lambda n: n.failures)
    assert isinstance(other.failures[0], OtherCluster)


def test_a_node_with_another_lock_key_is_refused(node: Callable[..., RecordingLockSession]) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    second = node(2, 1, keys=LockKeys.of("test-2", "cluster"))
    second.until(lambda n: n.failures)
    assert isinstance(second.failures[0], OtherLockKey)
    assert not second.views
    third = node(3, 1)
    third.until(lambda n: n.views)
    first.end()
    third.end()
    changed = node(2, 1, keys=LockKeys.of("test-2", "cluster"))
    changed.until(lambda n: n.mine == {1})


def test_two_clusters_under_two_lock_keys_live_side_by_side(
    node: Callable[..., RecordingLockSession],
) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    other = node(1, 1, keys=LockKeys.of("test-2", "another cluster"))
    other.until(lambda n: n.mine == {1})
    first.until(lambda n: n.mine == {1})


def test_a_node_waits_out_another_cluster_that_came_meanwhile(
    node: Callable[..., RecordingLockSession],
    url: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = node(1, 1)
    first.until(lambda n: n.mine == {1})
    tries: list[object] = []
    claim = LockSession._claim

    def counted(session: LockSession, locks: Locks) -> None:
        first._note(tries, locks)
        claim(session, locks)

    monkeypatch.setattr(LockSession, "_claim", counted)
    with psycopg2.connect(url) as other, other.cursor() as cursor:
        number = 1 if KEYS.cluster != 1 else 2  # of any other cluster
        cursor.execute("SELECT pg_advisory_lock_shared(%s, %s)", (KEYS.clusters, number))
        end_sessions(url)
        first.until(lambda n: n.losses)
        seen = len(first.views)
        first.session.want((1, 2))
        first.until(lambda n: len(tries) > 3)
        assert len(first.views) == seen and not first.failures
        said = [record for record in caplog.records if record.levelname == "ERROR"]
        assert len(said) == 1 and "--lock-key" in said[0].getMessage()
    other.close()
    first.until(lambda n: len(n.views) > seen and n.mine == {1, 2})
    assert not first.failures


def test_a_session_without_its_locks_is_lost(url: str) -> None:
    """As behind a proxy that gives each transaction another session."""
    raw = psycopg2.connect(url)
    raw.autocommit = True
    locks = Locks(raw, KEYS, 1)
    locks.claim(lambda: False)
    assert locks.ping((1, 2)).leaders == {1: 1, 2: 1}
    assert locks.ping((1, 2)).mine == {1, 2}, "what is held is not tried again"
    locks.unlock({2})
    assert locks.ping(()).mine == {1}
    with raw.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")
    with pytest.raises(SessionLost, match="locks are gone"):
        locks.ping((1,))
    raw.close()
