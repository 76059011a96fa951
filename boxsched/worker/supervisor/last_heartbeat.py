"""The last heartbeat that a node answered: a small file in the agent's folder for all supervisors.

The agent writes when it sent the last answered heartbeat, by the clock of the machine. If a job
must end when its worker is lost, its supervisor reads the file about once a second. So the job ends
in time even if the agent is dead or stopped. The file has its full size from the beginning and is
overwritten in place, so that a full disk ends no job.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import os
import time
import zlib
from typing import NamedTuple

from boxsched.worker.supervisor.folder import Record
from boxsched.worker.supervisor.safe_files import Damaged, open_regular, read_file

FILE_NAME = "heard"
_BYTES = 256  # within one page


class LastHeartbeat(NamedTuple):
    boot: str  # the boot id of the machine; ``boottime`` restarts at each boot
    at: float  # when the heartbeat was sent, by ``boottime``
    lost_after: float  # seconds after ``at`` when the worker counts as lost
    since: float  # since then no heartbeat came too late, by ``boottime``


def boottime() -> float:
    """Return seconds of a clock that continues while the machine sleeps, if there is one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def open_last_heartbeat(site: int) -> int:
    """Open the file for the agent and give it its full size. Raises OSError."""
    descriptor = open_regular(site, FILE_NAME, os.O_RDWR | os.O_CREAT)
    if os.fstat(descriptor).st_size < _BYTES:
        os.pwrite(descriptor, b" " * _BYTES, 0)
    return descriptor


def write_last_heartbeat(descriptor: int, heartbeat: LastHeartbeat) -> None:
    text = (
        f"{heartbeat.boot} {heartbeat.at!r} {heartbeat.lost_after!r} {heartbeat.since!r}".encode()
    )
    os.pwrite(descriptor, (b"%08x %s\n" % (zlib.crc32(text), text)).ljust(_BYTES), 0)


def read_last_heartbeat(site: int) -> LastHeartbeat | None:
    """Return the last heartbeat; None if there is none or the file is being written."""
    try:
        data = read_file(site, FILE_NAME) or b""
    except (Damaged, OSError):
        return None
    checksum, _, text = data.partition(b"\n")[0].partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        boot, at, lost_after, since = text.decode().rsplit(" ", 3)
        return LastHeartbeat(boot, float(at), float(lost_after), float(since))
    except ValueError:
        return None


def next_heartbeat(
    last: LastHeartbeat | None, boot: str, at: float, lost_after: float
) -> LastHeartbeat:
    """Return what to write after an answer to the heartbeat that was sent ``at``."""
    in_time = last is not None and last.boot == boot and at <= last.at + last.lost_after
    return LastHeartbeat(boot, at, lost_after, last.since if in_time and last is not None else at)


class Deadline:
    """The time at which an attempt must end because no node answered.

    ``record.lost_after``: seconds. None: never. Infinity: no node has told this worker yet.
    """

    def __init__(self, site: int, record: Record) -> None:
        self._site = site
        self._boot = record.boot
        self.lost_after = record.lost_after
        self._since = boottime()
        self._by = self._since + (record.lost_after or 0.0)

    def passed(self, now: float) -> bool:
        if self.lost_after is None:
            return False
        heartbeat = read_last_heartbeat(self._site)
        if heartbeat is not None and heartbeat.boot == self._boot:
            if self._by == float("inf"):
                if heartbeat.at <= self._since:
                    return False  # an earlier agent wrote it
                self._since = heartbeat.since
            # An answer that came too late does not help: another worker may run the job by now.
            if heartbeat.since > self._since:
                return True
            self._by, self.lost_after = heartbeat.at + heartbeat.lost_after, heartbeat.lost_after
        return now >= self._by
