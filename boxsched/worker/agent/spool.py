"""An attempt's log on its way into the store: which part is there, which is under way."""

import os

from boxsched.worker.agent.place import Place
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.safe_files import Damaged

CHUNK_BYTES = 64 << 10
MARKS_BYTES = 4 << 10  # more than ``BoundedLog`` says about what it has cut


class Spool:
    """Two files of the attempt's folder: the log, and ``sent``. The job may do odd things to both.

    ``next`` gives the same part again until ``stored``. Its bounds are written before it is sent:
    an agent that comes after sends the same ones, which the store tells from a new part by the
    offset.
    """

    def __init__(self, place: Place, log_limit: int) -> None:
        self._place = place
        self._most = log_limit + MARKS_BYTES  # no more than this a supervisor writes
        self._log = self._sent_file = -1
        self._gone = False  # there is no more of it to be had
        self._sent = 0  # how far the log is in the store
        self._sending = 0  # how far it is on its way there

    def open(self) -> None:
        """Raises Damaged, OSError; to be closed also then."""
        self._log = safe_files.open_regular(self._place.at, files.LOG, os.O_RDONLY)
        self._sent_file = safe_files.open_regular(self._place.at, files.SENT, os.O_RDWR)

    def close(self) -> None:
        for descriptor in (self._log, self._sent_file):
            if descriptor >= 0:
                os.close(descriptor)
        self._log = self._sent_file = -1

    def go_on(self) -> None:
        """Behind what an earlier agent has sent. Raises Damaged, OSError."""
        words = os.pread(self._sent_file, files.RESERVED_BYTES, 0).split()
        if len(words) >= 2 and words[0].isdigit() and words[1].isdigit():
            sent, sending = int(words[0]), int(words[1])
            if not sent <= sending <= min(sent + CHUNK_BYTES, self._most):
                raise Damaged("what is sent of its log is not known")
            self._sent, self._sending = sent, sending

    def next(self) -> tuple[int, bytes] | None:
        """Offset and bytes of the next part, at most CHUNK_BYTES; None: nothing new."""
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
            self._sending = self._sent  # the job has cut its log
            return None
        return self._sent, data

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
