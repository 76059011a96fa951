"""When a node was last heard: one small file beside the attempts' folders, for all supervisors.

The agent writes when it sent the last heartbeat that was answered, by the clock of the machine. The
supervisor of a job that must end where its worker is lost reads it about once a second. Time runs
out by itself: also while the agent is dead or frozen. The file has its full size from the beginning
and is overwritten in place, so that a full disk ends no job.

Imported by the spawner: standard library only, and little of it.
"""

import os
import time
import zlib
from typing import NamedTuple

from boxsched.worker.supervisor.folder import Record
from boxsched.worker.supervisor.safe_files import Damaged, open_regular, read_file

HEARD = "heard"
_BYTES = 256  # within one page


class Heard(NamedTuple):
    boot: str  # the machine's boot, by whose clock it is
    at: float  # when the heartbeat was sent, by ``boottime``
    lost_after: float  # so many seconds later the worker counts as lost
    since: float  # no heartbeat came too late from here on


def boottime() -> float:
    """Seconds that go on while the machine sleeps, where there is such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def open_heard(site: int) -> int:
    """The agent's descriptor of the file, whose place on the disk is taken. Raises OSError."""
    descriptor = open_regular(site, HEARD, os.O_RDWR | os.O_CREAT)
    if os.fstat(descriptor).st_size < _BYTES:
        os.pwrite(descriptor, b" " * _BYTES, 0)
    return descriptor


def write_heard(descriptor: int, heard: Heard) -> None:
    text = f"{heard.boot} {heard.at!r} {heard.lost_after!r} {heard.since!r}".encode()
    os.pwrite(descriptor, (b"%08x %s\n" % (zlib.crc32(text), text)).ljust(_BYTES), 0)


def read_heard(site: int) -> Heard | None:
    """None where nothing was written whole: also while it is being written."""
    try:
        data = read_file(site, HEARD) or b""
    except (Damaged, OSError):
        return None
    checksum, _, text = data.partition(b"\n")[0].partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        boot, at, lost_after, since = text.decode().rsplit(" ", 3)
        return Heard(boot, float(at), float(lost_after), float(since))
    except ValueError:
        return None


def following(last: Heard | None, boot: str, at: float, lost_after: float) -> Heard:
    """What to write when a heartbeat was answered that was sent ``at``."""
    in_time = last is not None and last.boot == boot and at <= last.at + last.lost_after
    return Heard(boot, at, lost_after, last.since if in_time and last is not None else at)


class Deadline:
    """Until when an attempt may run without its node; ``record.lost_after`` None: for ever;
    infinite: so far, as no node has said how long."""

    def __init__(self, site: int, record: Record) -> None:
        self._site = site
        self._boot = record.boot
        self.lost_after = record.lost_after
        self._since = boottime()
        self._by = self._since + (record.lost_after or 0.0)

    def passed(self, now: float) -> bool:
        if self.lost_after is None:
            return False
        heard = read_heard(self._site)
        if heard is not None and heard.boot == self._boot:
            if self._by == float("inf"):
                if heard.at <= self._since:
                    return False  # by an earlier life of this folder
                self._since = heard.since
            # A node that is heard again too late renews nothing: the job has been given again.
            if heard.since > self._since:
                return True
            self._by, self.lost_after = heard.at + heard.lost_after, heard.lost_after
        return now >= self._by
