"""Put the files that a job is given into its workspace, before its commands.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import os
import time
from collections.abc import Callable

from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import isolation, packs, safe_files
from boxsched.worker.supervisor.isolation import Isolation

LOOK_SECONDS = 0.2  # between two looks for a stop
MIB = 1 << 20


class Unpacking:
    """``at``: the attempt's folder. ``go_on``: whether the job goes on."""

    def __init__(
        self,
        at: int,
        workspace: int,
        walls: Isolation | None,
        note: Callable[[str], None],
        go_on: Callable[[], bool],
    ) -> None:
        self._at = at
        self._workspace = workspace
        self._walls = walls or isolation.NO_WALLS
        self._note = note
        self._go_on = go_on
        self._looked_at = 0.0

    def run(self) -> None:
        """Unpack the cache, then the artifacts, which replace files of the same path.

        Raises OSError; and BadPack, InTheWay if the artifacts cannot be unpacked.
        """
        try:
            self._unpack(files.CACHE_PACK, "of the cache", replace=False)
        except packs.BadPack as bad:
            self._note(f"the rest of the cache cannot be used: {bad}")
        self._unpack(files.GIVEN_PACK, "of the build's artifacts", replace=True)

    def _unpack(self, name: str, what: str, *, replace: bool) -> None:
        try:
            descriptor = safe_files.open_regular(self._at, name, os.O_RDONLY)
        except FileNotFoundError:
            return
        except safe_files.Damaged as damage:
            raise packs.BadPack(str(damage)) from None
        began = time.monotonic()
        with open(descriptor, "rb") as pack:
            done = packs.unpack(
                pack,
                self._workspace,
                replace=replace,
                give=self._walls.give,
                give_link=self._give_link,
                go_on=self._looks,
            )
        os.unlink(name, dir_fd=self._at)
        if not done.files and not done.in_the_way:
            return
        left = f", {done.in_the_way} were there already" if done.in_the_way else ""
        took = time.monotonic() - began
        size = f"{done.size / MIB:.1f} MiB" if done.size >= MIB else f"{done.size} bytes"
        files = f"{done.files} file" if done.files == 1 else f"{done.files} files"
        self._note(f"{files} {what}, {size}, put in place in {took:.1f} s{left}")

    def _give_link(self, name: str, at: int) -> None:
        uid, gid = self._walls.uid, self._walls.gid
        if uid is not None and gid is not None:
            os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)

    def _looks(self) -> bool:
        now = time.monotonic()
        if now < self._looked_at + LOOK_SECONDS:
            return True
        self._looked_at = now
        return self._go_on()
