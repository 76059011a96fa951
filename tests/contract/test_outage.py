"""An unavailable database is reported once, not by every caller."""

from collections import Counter
from typing import Any

import pytest

from boxsched.errors import StoreAway
from boxsched.store.outage import CALM_SECONDS, LOG_AGAIN_SECONDS, Outage, OutageLoggingDriver


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


class Database:
    """A driver whose procedures fail with ``error``, if there is one."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.events: list[str] = []
        self.round_trips: Counter[str] = Counter(x=1)
        self.servers: Any = "the servers"
        self.is_near = True
        self.deciding = self.serving = self.reading = self

    async def open(self) -> None:
        self.events.append("open")

    async def close(self) -> None:
        self.events.append("close")

    async def _run(self, steps: object, *given: object, **named: object) -> Any:
        if self.error is not None:
            raise self.error
        return steps, given, named

    write = load = read = snapshot = _run


USES, KINDS = ("deciding", "serving"), ("write", "load", "read", "snapshot")


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
async def test_every_failure_is_an_outage_and_every_answer_its_end(
    use: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    database: Any = Database()
    driver = OutageLoggingDriver(database)
    clock = driver._outage._clock = Clock()  # type: ignore[assignment]
    call = getattr(getattr(driver, use), kind)
    assert await call("steps", 1, two=2) == ("steps", (1,), {"two": 2})
    database.error = StoreAway("for the test")
    with pytest.raises(StoreAway):
        await call("steps")
    assert driver.writes_fail is (kind == "write")
    database.error = ValueError("not the database's absence")
    with pytest.raises(ValueError, match="absence"):
        await call("steps")
    database.error, clock.now = None, clock.now + CALM_SECONDS
    await call("steps")
    assert not driver.writes_fail
    away, back = (record.getMessage() for record in caplog.records)
    assert "the database is away: for the test" in away
    assert "back" in back


async def test_only_a_write_shows_that_writes_work_again() -> None:
    database: Any = Database()
    driver = OutageLoggingDriver(database)
    database.error = StoreAway("disk full")
    with pytest.raises(StoreAway):
        await driver.deciding.write("steps")  # type: ignore[arg-type]
    database.error = None
    for kind in ("load", "read", "snapshot"):
        await getattr(driver.serving, kind)("steps")
        assert driver.writes_fail
    await driver.serving.write("steps")  # type: ignore[arg-type]
    assert not driver.writes_fail


async def test_the_driver_below_is_opened_closed_and_shown() -> None:
    database: Any = Database()
    driver = OutageLoggingDriver(database)
    await driver.open()
    await driver.close()
    assert database.events == ["open", "close"]
    assert (driver.is_near, driver.servers) == (True, "the servers")
    assert driver.round_trips is database.round_trips
    assert driver.reading is database, "reads for people are not watched"
