"""Log that the database is away: at once, about once a minute while it lasts, and when it is back.

Callers that need the store in the meantime try again and do not log it, because there are many of
them, and each tries several times a second.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from boxsched.errors import StoreAway
from boxsched.store.blocks import Steps
from boxsched.store.driver import Procedures, StoreDriver

P = ParamSpec("P")
T = TypeVar("T")

LOG_AGAIN_SECONDS = 60.0
CALM_SECONDS = 1.0  # without a failure, after which it counts as back

_log = logging.getLogger(__name__)


class Outage:
    """One absence of the database. Times are seconds of a monotonic clock."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._since: float | None = None
        self._failed = 0.0
        self._logged_at = 0.0
        self.writes_fail = False  # whether the last write failed

    def failed(self, error: StoreAway) -> None:
        now = self._failed = self._clock()
        what = " ".join(error.message.split())
        if self._since is None:
            self._since = self._logged_at = now
            _log.warning("the database is away: %s; requests get 503, trying again", what)
        elif now - self._logged_at >= LOG_AGAIN_SECONDS:
            self._logged_at = now
            _log.warning("the database is away for %.0f s: %s", now - self._since, what)

    def worked(self) -> None:
        if self._since is not None:
            now = self._clock()
            if now - self._failed >= CALM_SECONDS:
                _log.warning("the database is back, after %.1f s", self._failed - self._since)
                self._since = None


class OutageLoggingDriver:
    """A driver that logs outages. A read that took too long is not an outage; its caller gets the
    error.
    """

    def __init__(self, driver: StoreDriver) -> None:
        self._driver = driver
        self._outage = outage = Outage()
        self.round_trips = driver.round_trips
        self.servers = driver.servers
        self.is_near = driver.is_near
        self.deciding: Procedures = OutageLoggingProcedures(driver.deciding, outage)
        self.serving: Procedures = OutageLoggingProcedures(driver.serving, outage)
        self.reading = driver.reading

    @property
    def writes_fail(self) -> bool:
        return self._outage.writes_fail

    async def open(self) -> None:
        await self._driver.open()

    async def close(self) -> None:
        await self._driver.close()


class OutageLoggingProcedures:
    """Procedures that report their failures to an outage."""

    def __init__(self, procedures: Procedures, outage: Outage) -> None:
        self._procedures = procedures
        self._outage = outage

    async def write(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            found = await self._watched(self._procedures.write(steps, *args, **kwargs))
        except StoreAway:
            self._outage.writes_fail = True
            raise
        self._outage.writes_fail = False
        return found

    async def load(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._watched(self._procedures.load(steps, *args, **kwargs))

    async def read(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._watched(self._procedures.read(steps, *args, **kwargs))

    async def snapshot(self, steps: Callable[P, Steps[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._watched(self._procedures.snapshot(steps, *args, **kwargs))

    async def _watched(self, work: Awaitable[T]) -> T:
        try:
            found = await work
        except StoreAway as error:
            self._outage.failed(error)
            raise
        self._outage.worked()
        return found
