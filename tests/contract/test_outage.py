"""An unavailable database is reported once, not by every caller."""

import pytest

from boxsched.errors import StoreAway
from boxsched.store.outage import CALM_SECONDS, LOG_AGAIN_SECONDS, Outage


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_an_outage_is_logged_at_once_then_once_a_minute_and_at_its_end(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage(clock)
    outage.worked()
    for _ in range(int(2.5 * LOG_AGAIN_SECONDS) * 10):
        clock.now += 0.1
        outage.failed(StoreAway("nobody\nanswers"))
    clock.now += 2 * CALM_SECONDS
    outage.worked()
    outage.worked()
    first, *again, last = [record.getMessage() for record in caplog.records]
    assert "nobody answers" in first, "in one line"
    assert len(again) == 2
    assert "back, after 149.9 s" in last


def test_some_successful_calls_do_not_end_an_outage(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    outage = Outage(clock)
    for _ in range(100):
        clock.now += 0.1
        outage.failed(StoreAway("too slow"))
        outage.worked()
    assert len(caplog.records) == 1
