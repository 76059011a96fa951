"""Move an attempt's log into the store, and remember which part is stored."""

import os

from boxsched.worker.agent.attempt_folder import AttemptFolder
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.joblog import tail_limit
from boxsched.worker.supervisor.safe_files import Damaged

CHUNK_BYTES = 64 << 10
MARKS_BYTES = 4 << 10  # more than the marks of ``BoundedLog`` for missing output


def most_bytes(log_limit: int) -> int:
    """Return the size of the longest log: its beginning, its end, and the marks."""
    return log_limit + tail_limit(log_limit) + MARKS_BYTES


class Spool:
    """Reads the log and keeps the file ``sent``. The job can change both files.

    ``next`` returns the same part until ``stored`` is called. The bounds of a part are written
    before it is sent, so that a later agent sends a part with the same bounds. By its offset, the
    store recognizes a part that it already has.
    """

    def __init__(self, folder: AttemptFolder, log_limit: int) -> None:
        self._folder = folder
        self._most = most_bytes(log_limit)
        self._log = self._sent_file = -1
        self._gone = False  # no more of the log can be read
        self._sent = 0  # bytes of the log that are in the store
        self._sending = 0  # bytes that were read or are in the store

    def open(self) -> None:
        """Open both files. Raises Damaged, OSError; call ``close`` in any case."""
        self._log = safe_files.open_regular(self._folder.at, files.LOG, os.O_RDONLY)
        self._sent_file = safe_files.open_regular(self._folder.at, files.SENT, os.O_RDWR)

    def close(self) -> None:
        for descriptor in (self._log, self._sent_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = self._sent_file = -1

    def go_on(self) -> None:
        """Continue after what an earlier agent has sent. Raises Damaged, OSError."""
        words = os.pread(self._sent_file, files.RESERVED_BYTES, 0).split()
        if len(words) >= 2 and words[0].isdigit() and words[1].isdigit():
            sent, sending = int(words[0]), int(words[1])
            if not sent <= sending <= min(sent + CHUNK_BYTES, self._most):
                raise Damaged("it is not known which part of its log was sent")
            self._sent, self._sending = sent, sending

    def next(self) -> tuple[int, bytes] | None:
        """Return offset and bytes of the next part, at most CHUNK_BYTES; None: nothing new."""
        if self._log < 0 and not self._open_again():
            return None
        if self._sending == self._sent:
            end = min(self._size(), self._sent + CHUNK_BYTES)
            if end <= self._sent:
                return None
            os.pwrite(self._sent_file, b"%d %d\n" % (self._sent, end), 0)
            self._sending = end
        data = os.pread(self._log, self._sending - self._sent, self._sent)
        if not data:
            self._sending = self._sent  # the job has truncated its log
            return None
        return self._sent, data

    def rewind(self) -> None:
        """Send everything again: the store keeps what it does not have."""
        self._sent = self._sending = 0

    def stored(self) -> None:
        self._sent = self._sending

    @property
    def all_stored(self) -> bool:
        if self._log < 0:
            return self._gone
        return self._sent == self._sending >= self._size()

    def _size(self) -> int:
        return min(os.fstat(self._log).st_size, self._most)

    def _open_again(self) -> bool:
        try:
            self.open()
        except (Damaged, FileNotFoundError):
            self.close()
            self._gone = True
        except OSError:
            self.close()
            raise
        return not self._gone
