"""Remove contents that nothing refers to, and files that a crash has left.

Only the node that leads the default organization's shard does it, in slices, once an hour.
"""

import asyncio
import logging
from collections.abc import Callable

from boxsched.blobs.places import LogStore
from boxsched.clock import Clock
from boxsched.errors import BoxschedError
from boxsched.node.contents import NodeContents
from boxsched.node.slices import pause_after
from boxsched.store.store import Store

log = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # while another node leads
REST_SECONDS = 3_600.0  # between two rounds
UNUSED_SECONDS = 3_600.0  # after which a content without a reference is deleted
LEFT_SECONDS = 86_400.0  # after which a file without an entry, or an incomplete one, is removed
SLICE = 200


class Sweeping:
    """``removed``: files removed by this node, for the metrics."""

    def __init__(
        self, store: Store, files: NodeContents, clock: Clock, leads: Callable[[], bool]
    ) -> None:
        self._rows = store.blobs
        self._files = files
        self._clock = clock
        self._leads = leads
        self.removed = 0
        self._hash: str | None = ""  # contents up to this hash were looked at; None: all
        self._part: str | None = ""  # the same for files in the database
        self._file: str | None = ""  # the same for files of the log store

    async def run(self) -> None:
        """Run until cancelled. After an outage of the database the next round tries again."""
        while True:
            if not self._leads():
                await asyncio.sleep(LOOK_SECONDS)
                continue
            began = self._clock.monotonic()
            try:
                more = await self.run_once(self._clock.now())
            except BoxschedError as error:
                log.info("no unused files were removed this time: %s", error.message)
                more = False
            took = self._clock.monotonic() - began
            await asyncio.sleep(pause_after(took) if more else REST_SECONDS)

    async def run_once(self, now: float) -> bool:
        """Do the next slice; return whether there is more to do in this round."""
        if self._hash is not None:
            await self._drop_unused(self._hash, now - UNUSED_SECONDS)
        elif self._part is not None:
            self._part = await self._rows.drop_unknown_parts(self._part, now - LEFT_SECONDS, SLICE)
        elif self._files.log_store is not None and self._file is not None:
            await self._drop_unknown(self._files.log_store, self._file, now - LEFT_SECONDS)
        else:
            if self._files.log_store is not None:
                before = now - LEFT_SECONDS
                self.removed += await self._files.log_store.remove_old_uploads(before)
            self._hash, self._part, self._file = "", "", ""
            return False
        return True

    async def _drop_unused(self, after: str, before: float) -> None:
        gone, self._hash = await self._rows.drop_unused(after, before, SLICE)
        for one in gone:
            if self._files.log_store is not None and one.place == self._files.log_store.name:
                await self._files.log_store.remove(one.file)
            self.removed += 1

    async def _drop_unknown(self, store: LogStore, after: str, before: float) -> None:
        found, following = await store.old_files(after, before)
        for begin in range(0, len(found), SLICE):
            names = found[begin : begin + SLICE]
            known = await self._rows.known_files(names)
            for name in set(names) - known:
                await store.remove(name)
                self.removed += 1
        self._file = following
