"""A job's log file: its output, limited in size.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import re

from boxsched.worker.supervisor.safe_files import write_all

MIB = 1 << 20
LOG_LIMIT_BYTES = 16 * MIB
LINE_LIMIT_BYTES = MIB
NOTE_LIMIT_BYTES = 1_024  # a log has few notes: the spool has room for them after the limit
READ_BYTES = 256 << 10

_LINE_END = re.compile(rb"[\r\n]")

assert READ_BYTES <= LINE_LIMIT_BYTES  # so a line within one chunk is never too long


class BoundedLog:
    """Writes a job's output, limits its lines and its size, and marks where output is missing."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._written = 0
        self._line = 0  # bytes of the current line, including those that were cut
        self._ends_line = True
        self.cut = 0  # bytes that came after the limit

    @property
    def full(self) -> bool:
        return self._written >= self._limit

    def take(self, chunk: bytes) -> None:
        """Write up to READ_BYTES of output. Raises OSError if the disk cannot store them."""
        self._write(self._cut_lines(chunk))

    def finish(self) -> None:
        """Write the marks for missing output. Raises OSError."""
        if self._line > LINE_LIMIT_BYTES:
            self._write(_line_mark(self._line) + b"\n")
        if self.cut:
            limit = _size(self._limit)
            self.note(f"the log's limit of {limit} is reached: {self.cut} bytes more were cut")

    def note(self, text: str) -> None:
        """Write a message of the worker, also after the limit. Raises OSError."""
        newline = "" if self._ends_line else "\n"
        line = f"{newline}[boxsched: {text}".encode(errors="replace")[:NOTE_LIMIT_BYTES]
        write_all(self._descriptor, line + b"]\n")
        self._ends_line = True

    def _cut_lines(self, chunk: bytes) -> bytes:
        """Return the chunk without the excess of a too long line; only its first line can be one.

        Every other line begins in this chunk. A carriage return ends a line as a line feed does,
        because progress bars print only carriage returns.
        """
        found = _LINE_END.search(chunk)
        end = found.start() if found else -1
        head, rest = (chunk, b"") if end < 0 else (chunk[:end], chunk[end:])
        kept = head[: max(0, LINE_LIMIT_BYTES - self._line)]
        self._line += len(head)
        if not rest:
            return kept
        mark = _line_mark(self._line) if self._line > LINE_LIMIT_BYTES else b""
        self._line = len(rest) - max(rest.rfind(b"\n"), rest.rfind(b"\r")) - 1
        return kept + mark + rest

    def _write(self, data: bytes) -> None:
        fits = data[: self._limit - self._written]
        self.cut += len(data) - len(fits)
        if fits:
            write_all(self._descriptor, fits)
            self._written += len(fits)
            self._ends_line = fits.endswith(b"\n")


def _line_mark(length: int) -> bytes:
    return b" [boxsched: %d bytes of this line were cut]" % (length - LINE_LIMIT_BYTES)


def _size(limit: int) -> str:
    return f"{limit // MIB} MiB" if limit % MIB == 0 else f"{limit} bytes"
