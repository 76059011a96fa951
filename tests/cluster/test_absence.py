"""A lock session that is refused, or whose database is away; the clock is held."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg2
import pytest

from boxsched.cluster import lock_session
from boxsched.cluster.elected import ElectedLeadership
from boxsched.cluster.lock_session import LockSession, PingResult
from boxsched.cluster.locks import NameTaken, SessionLost
from boxsched.cluster.shared_locks import OtherCluster, OtherLockKey
from boxsched.cluster.shares import LockView
from boxsched.protocol.lock_keys import LockKeys

LEADS = "leads, and then loses its session"
Attempt = Exception | str


class Pauses(threading.Event):
    """In place of the event that ends a session: waits on the held clock."""

    def __init__(self, script: "Script") -> None:
        super().__init__()
        self._script = script

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._script.pauses.append(round(timeout, 3))
        self._script.now += timeout
        if not self._script.attempts:
            self.set()
        return self.is_set()


class Script:
    """Runs a lock session whose attempts to connect end as scripted."""

    def __init__(self, attempts: Sequence[Attempt], took: float) -> None:
        self.attempts = list(attempts)
        self.took = took
        self.now = 1_000.0
        self.pauses: list[float] = []
        self.lost: list[str] = []
        self.failed: list[Exception] = []

    def run(self, monkeypatch: pytest.MonkeyPatch) -> None:
        session = LockSession(
            "postgresql://nobody@127.0.0.1:1/x", LockKeys.of("k", "c"), 1, retry_interval=5.0,
            seen=lambda seen: None, lost=self.lost.append, failed=self.failed.append,
        )  # fmt: skip
        monkeypatch.setattr(lock_session, "clock", lambda: self.now)
        monkeypatch.setattr(session, "_session", self._session)
        monkeypatch.setattr(session, "_lead", self._lead)
        monkeypatch.setattr(session, "_ending", Pauses(self))
        session._run()

    @contextlib.contextmanager
    def _session(self) -> Iterator[Any]:
        attempt = self.attempts.pop(0)
        self.now += self.took
        if isinstance(attempt, Exception):
            raise attempt
        yield None

    def _lead(self, locks: object) -> None:
        raise SessionLost("the session broke")


AWAY = psycopg2.OperationalError("connection refused")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    def run(*attempts: Attempt, took: float = 0.0) -> Script:
        made = Script(attempts, took)
        made.run(monkeypatch)
        return made

    return run


def test_the_end_of_a_short_absence_is_noticed_at_once_and_a_long_one_costs_little(
    script: Any,
) -> None:
    """A tenth of the absence; at least 0.1 s, and at most the requested interval."""
    found = script(LEADS, *[AWAY] * 60)
    assert found.pauses[:11] == [0.1] * 11
    assert found.pauses[12] > found.pauses[11] > 0.1
    assert found.pauses[-2:] == [5.0, 5.0]
    found = script(LEADS, AWAY, AWAY, took=2.0)
    assert found.pauses == [0.1, 0.21, 0.431]


def test_an_absence_is_reported_once_and_the_next_one_again(script: Any) -> None:
    found = script(LEADS, AWAY, AWAY, LEADS, AWAY)
    assert found.lost == ["the session broke", "the session broke"]
    assert script(AWAY, AWAY).lost == ["connection refused"]
    assert found.failed == []


def test_after_an_absence_the_pauses_are_short_again(script: Any) -> None:
    assert script(LEADS, *[AWAY] * 60, LEADS, AWAY).pauses[-2:] == [0.1, 0.1]


@pytest.mark.parametrize("error", [NameTaken("n"), OtherCluster(), OtherLockKey()])
def test_an_error_that_waiting_does_not_fix_ends_a_node_at_its_start(
    script: Any, error: Exception
) -> None:
    found = script(AWAY, error, LEADS)
    assert found.failed == [error]
    assert len(found.attempts) == 1, "it is not tried again"


@pytest.mark.parametrize("error", [OtherCluster(), OtherLockKey()])
def test_a_node_waits_for_another_cluster_that_came_while_the_database_was_away(
    script: Any, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    found = script(LEADS, AWAY, error, error, LEADS, error)
    assert (found.failed, found.attempts) == ([], [])
    said = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert len(said) == 2, "once for each time"


def test_an_internal_error_ends_the_node(script: Any) -> None:
    found = script(LEADS, error := ZeroDivisionError())
    assert found.failed == [error]


def test_a_node_whose_name_is_taken_later_ends(script: Any) -> None:
    found = script(LEADS, error := NameTaken("n"))
    assert found.failed == [error]


def test_a_server_that_is_cut_off_is_noticed_within_its_session() -> None:
    """Whatever is lost on the way: the connect, an answer, or what was sent."""
    said = lock_session._CONNECTING
    assert said["application_name"] == "boxsched leader", "``boxsched db`` finds it by its name"
    assert said["target_session_attrs"] == "read-write", "a standby has locks of its own"
    assert (said["connect_timeout"], said["tcp_user_timeout"]) == (2, 2_000)
    assert said["keepalives"] == 1
    probes = said["keepalives_interval"] * said["keepalives_count"]
    assert said["keepalives_idle"] + probes == lock_session.SESSION_SECONDS == 3.0
    for setting in (
        "idle_session_timeout = '3.0s'",
        "statement_timeout = '2.5s'",
        "client_connection_check_interval = '500ms'",
    ):
        assert f"SET {setting};" in lock_session._SESSION


async def test_a_node_shows_what_its_last_ping_found_and_nothing_without_a_session() -> None:
    nothing: Any = None
    leadership = ElectedLeadership(
        "postgresql://nobody@127.0.0.1:1/x", nothing, keys=LockKeys.of("k", "c"), node="a",
        retry_interval=5.0, engine_of=nothing,
    )  # fmt: skip
    assert leadership.view is None and not leadership.trusted
    view = LockView(1, frozenset({1, 2}), {})
    leadership._seen(PingResult(lock_session.clock(), view))
    assert leadership.view is view and leadership.trusted
    leadership._lost("of the test")
    assert leadership.view is None and not leadership.trusted
