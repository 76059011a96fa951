"""Input of the engine's next turn: commands in the inbox, and reports in memory."""

import asyncio
from collections.abc import Sequence

from boxsched.engine.caution import Caution
from boxsched.engine.direct import Direct, WaitingReports
from boxsched.protocol.batches import InboxEntry
from boxsched.protocol.inbox import Reports
from boxsched.store.store import Store


class Intake:
    """``caution`` limits how many commands a turn takes. Times are in monotonic seconds."""

    def __init__(self, store: Store, shard: int) -> None:
        self._store = store
        self._shard = shard
        self.caution = Caution()
        self._direct = Direct()
        self._ahead: list[InboxEntry] = []  # the oldest entries of the inbox after the last commit

    @property
    def has_read_ahead(self) -> bool:
        """Whether commands are available without a read."""
        return bool(self._ahead)

    def read_ahead(self, entries: Sequence[InboxEntry]) -> None:
        """Set the oldest commands after the last commit."""
        self._ahead = list(entries)

    def report(self, command: Reports, now: float) -> asyncio.Future[None] | None:
        """Take reports in memory. Return None if they must go through the inbox."""
        return None if self.caution.goes_on else self._direct.say(command, now)

    async def commands(self, *, settled: bool) -> list[InboxEntry]:
        """Return the oldest commands, as many as the next turn may take. Raises StoreAway.

        If reports wait in memory and the database is in this process, the inbox is not read now:
        the commit of their batch reads it.
        """
        limit = self.caution.at_most(settled=settled)
        entries, self._ahead = self._ahead[:limit], []
        reports = self._takes_reports(settled) and self._direct
        if not limit or entries or (reports and self._store.is_near):
            return entries
        entries = await self._store.inbox(self._shard, limit)
        if not entries:
            self.caution.nothing_waits()
        return entries

    def reports(self, *, settled: bool) -> list[WaitingReports]:
        """Return the reports of the next turn; none while a command that raises is searched."""
        return self._direct.take() if self._takes_reports(settled) else []

    def _takes_reports(self, settled: bool) -> bool:
        return settled and not self.caution.goes_on

    def fail(self, reports: Sequence[WaitingReports], now: float) -> None:
        """Fail these reports after a turn with them raised an error.

        They arrive again through the inbox, where the report that causes the error is found.
        """
        if reports:
            self._direct.close(now)
        for each in reports:
            each.failed()

    def drop(self) -> None:
        """Drop everything, because the books were dropped; workers repeat their reports."""
        self._direct.drop()
        self._ahead = []
