"""The calls about notifications."""

import msgspec

from boxsched.client.http import ServiceLine, path
from boxsched.client.operating import read
from boxsched.client.records import Notification


class Notifications:
    """A part of ``Client``."""

    _line: ServiceLine

    async def notifications(
        self, *, state: str | None = None, limit: int | None = None
    ) -> list[Notification]:
        """Return notifications, newest first. ``state``: waiting, delivered or dead."""
        said = {"state": state, "limit": None if limit is None else str(limit)}
        query = {name: value for name, value in said.items() if value is not None}
        _, body = await self._line.call("GET", path("notifications"), query=query)
        return read(_Page, body).notifications

    async def notification(self, notification: str) -> Notification:
        _, body = await self._line.call("GET", path("notifications", notification))
        return read(Notification, body)

    async def resend_notification(self, notification: str) -> Notification:
        """Send the notification again now, and repeat failed tries for a day."""
        where = path("notifications", notification, "resend")
        _, body = await self._line.call("POST", where)
        return read(Notification, body)


class _Page(msgspec.Struct, frozen=True):
    notifications: list[Notification]
