"""How little disk space and memory there was while git ran.

git says only in its messages that a disk is full or that memory ran out. A server can write there
what it wants: ssh passes its error output on, and a refusal may have several lines. So the words
count only if the machine was in that state. To look afterwards is not enough: a clone that fails
removes its files.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import os

LOOK_SECONDS = 0.1
ENOUGH_BYTES = 64 << 20  # with less, disk or memory counts as full
SMALLEST_SHARE = 20  # a small one counts as full with less than a 20th free
_MEMORY = "/proc/meminfo"


class _Level:
    """The least that was free, and the most that was used up between two looks, in bytes."""

    def __init__(self) -> None:
        self._last = self._drop = 0
        self._least = self._needed = 0
        self._seen = False

    def add(self, free: int, size: int) -> None:
        if self._seen:
            self._drop = max(self._drop, self._last - free)
        self._least = min(self._least, free) if self._seen else free
        self._needed = min(ENOUGH_BYTES, size // SMALLEST_SHARE)
        self._last, self._seen = free, True

    @property
    def was_low(self) -> bool:
        """Whether there was too little, or might have been before the next look."""
        return self._seen and self._least < self._needed + self._drop


class MachineWatch:
    """``at``: the descriptor of a folder on the disk that git writes to."""

    def __init__(self, at: int) -> None:
        self._at = at
        self._disk, self._memory = _Level(), _Level()
        self.next_at = float("inf")  # the time of the next look

    def begin(self, now: float) -> None:
        """Forget what was seen, and look for the first time."""
        self._disk, self._memory = _Level(), _Level()
        self.look(now)

    def look(self, now: float) -> None:
        self.next_at = now + LOOK_SECONDS
        try:
            status = os.statvfs(self._at)
            self._disk.add(status.f_bavail * status.f_frsize, status.f_blocks * status.f_frsize)
            self._memory.add(*_memory())
        except (OSError, ValueError, KeyError):
            return  # what was not seen confirms nothing

    def end(self) -> None:
        """Look for the last time."""
        self.look(0.0)
        self.next_at = float("inf")

    @property
    def disk_was_full(self) -> bool:
        return self._disk.was_low

    @property
    def memory_was_low(self) -> bool:
        return self._memory.was_low

    @property
    def disk_is_read_only(self) -> bool:
        try:
            return bool(os.fstatvfs(self._at).f_flag & os.ST_RDONLY)
        except OSError:
            return False


def _memory() -> tuple[int, int]:
    """Return the available and the total memory in bytes."""
    with open(_MEMORY, "rb") as file:
        found = dict(line.split(b":", 1) for line in file.read().splitlines())
    free, size = (int(found[name].split()[0]) << 10 for name in (b"MemAvailable", b"MemTotal"))
    return free, size
