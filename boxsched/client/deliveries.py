"""The calls about deliveries of code hosts."""

import msgspec

from boxsched.client.http import ServiceLine, path
from boxsched.client.operating import read
from boxsched.client.records import Delivery


class Deliveries:
    """A part of ``Client``."""

    _line: ServiceLine

    async def deliveries(
        self, *, project: str | None = None, result: str | None = None, limit: int | None = None
    ) -> list[Delivery]:
        """Return deliveries, newest first. ``result``: created, canceled, duplicate or ignored."""
        said = {
            "project": project,
            "result": result,
            "limit": None if limit is None else str(limit),
        }
        query = {name: value for name, value in said.items() if value is not None}
        _, body = await self._line.call("GET", path("deliveries"), query=query)
        return read(_Page, body).deliveries


class _Page(msgspec.Struct, frozen=True):
    deliveries: list[Delivery]
