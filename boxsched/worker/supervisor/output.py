"""What a job prints: from a pipe into its log, or, where that takes no more, nowhere.

Imported by the spawner: standard library only, and little of it.
"""

import os

from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.joblog import READ_BYTES, BoundedLog
from boxsched.worker.supervisor.masking import Masker, Masks

DRAIN_BYTES = 4 << 20  # more than a pipe holds


class Output:
    """``job_end`` is the job's end of the pipe. ``disk_full``: the log has a hole, so that it would
    lie; the job is to fail, and nothing more is written."""

    def __init__(self, at: int, log_limit: int, masks: Masks) -> None:
        self._file = safe_files.open_regular(at, files.LOG, os.O_WRONLY | os.O_APPEND)
        self._log = BoundedLog(self._file, log_limit)
        self._sink = os.open(os.devnull, os.O_WRONLY)
        self.pipe, self.job_end = os.pipe()
        os.set_blocking(self.pipe, False)
        self.disk_full = False
        self.tail: bytes | None = None  # what was printed last, while someone wants it
        self._tail_bytes = 0
        self._masker = Masker(masks) if masks else None

    def keep_tail(self, size: int) -> None:
        """Keep so many bytes of what is printed last; 0: none any more."""
        self.tail, self._tail_bytes = (b"" if size else None), size

    def read(self) -> int:
        """Take some of what was printed. Returns its size."""
        try:
            if self._log.full and hasattr(os, "splice"):
                size = os.splice(self.pipe, self._sink, READ_BYTES)
                self._log.cut += size
                return size
            chunk = os.read(self.pipe, READ_BYTES)
        except BlockingIOError:
            return 0
        self._take(chunk if self._masker is None else self._masker.feed(chunk))
        return len(chunk)

    def _take(self, text: bytes) -> None:
        """Output in which nothing secret is left."""
        if self.tail is not None:
            self.tail = (self.tail + text)[-self._tail_bytes :]
        if self.disk_full:
            return
        try:
            for begin in range(0, len(text), READ_BYTES):
                self._log.take(text[begin : begin + READ_BYTES])
        except OSError as error:
            self._failed(error)

    def drain(self) -> None:
        """What is still in the pipe. Not until its end: a stranger may hold that open."""
        left = DRAIN_BYTES
        while left > 0 and (size := self.read()) > 0:
            left -= size

    def note(self, text: str) -> None:
        """A line of ours, for a person. It may come before up to 63 bytes of output that are held
        back, since they may be the beginning of a secret."""
        try:
            self._log.note(text)
        except OSError as error:
            self._failed(error)

    def finish(self) -> None:
        """What was held back, and the marks for what is missing; then all of it is durable."""
        if self._masker is not None:
            self._take(self._masker.finish())
        try:
            self._log.finish()
            os.fsync(self._file)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        if error.errno not in safe_files.FULL_ERRORS:
            raise error
        self.disk_full = True
