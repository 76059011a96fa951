"""Copy a job's output from a pipe into its log.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import os

from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.joblog import READ_BYTES, BoundedLog
from boxsched.worker.supervisor.masking import Masker, Masks

DRAIN_BYTES = 4 << 20  # more than a pipe can hold


class Output:
    """``job_end``: the job's end of the pipe.

    ``disk_full``: output is missing in the log, so the job must fail; nothing more is written.
    """

    def __init__(self, at: int, log_limit: int, masks: Masks) -> None:
        self._file = safe_files.open_regular(at, files.LOG, os.O_WRONLY | os.O_APPEND)
        self._log = BoundedLog(self._file, log_limit)
        self.pipe, self.job_end = os.pipe()
        os.set_blocking(self.pipe, False)
        self.disk_full = False
        self.tail: bytes | None = None  # the last output, if ``keep_tail`` asked for it
        self._tail_bytes = 0
        self._masker = Masker(masks) if masks else None

    def keep_tail(self, size: int) -> None:
        """Keep the last ``size`` bytes of output in ``tail``; 0: keep nothing."""
        self.tail, self._tail_bytes = (b"" if size else None), size

    def read(self) -> int:
        """Read some output; return its size in bytes."""
        try:
            chunk = os.read(self.pipe, READ_BYTES)
        except BlockingIOError:
            return 0
        self._take(chunk if self._masker is None else self._masker.feed(chunk))
        return len(chunk)

    def _take(self, text: bytes) -> None:
        """Write masked output."""
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
        """Read what is in the pipe, but not until its end: another process may keep it open."""
        left = DRAIN_BYTES
        while left > 0 and (size := self.read()) > 0:
            left -= size

    def note(self, text: str) -> None:
        """Write a message of the worker.

        Up to 63 bytes of earlier output may follow it: they may be the beginning of a secret, so
        they are held back.
        """
        try:
            self._log.note(text)
        except OSError as error:
            self._failed(error)

    def finish(self) -> None:
        """Write held output and the marks for missing output, and make the log durable."""
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
