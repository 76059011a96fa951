"""A separate database for each test, on one real PostgreSQL."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from boxsched.cluster.lock_session import LockSession, PingResult
from boxsched.protocol.lock_keys import LockKeys
from tests.contract.postgres_server import database, provided

PATIENCE_SECONDS = 20.0
KEYS = LockKeys.of("test", "cluster")


class RecordingLockSession:
    """A lock session that records its reports; a thread ticks for it."""

    def __init__(self, url: str, number: int, keys: LockKeys = KEYS) -> None:
        self.number = number
        self.views: list[PingResult] = []
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

    def start(self, *shards: int) -> "RecordingLockSession":
        self._heart.start()
        self.session.want(shards)
        self.session.start()
        return self

    def until(self, what: Callable[["RecordingLockSession"], object]) -> None:
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


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    with provided() as url:
        yield url


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with database(postgres) as url:
        yield url
