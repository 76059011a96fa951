"""A job's log file: its output, limited in size.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import re
from collections import deque

from boxsched.worker.supervisor.safe_files import write_all

MIB = 1 << 20
LOG_LIMIT_BYTES = 16 * MIB
TAIL_BYTES = 4 * MIB  # of the end of a log that exceeds its limit
LINE_LIMIT_BYTES = MIB
NOTE_LIMIT_BYTES = 1_024  # a log has few notes: the spool has room for them after the limit
READ_BYTES = 256 << 10

_LINE_END = re.compile(rb"[\r\n]")

assert READ_BYTES <= LINE_LIMIT_BYTES  # so a line within one chunk is never too long


def tail_limit(limit: int) -> int:
    """Return how many bytes of its end are kept of a log that exceeds ``limit``."""
    return min(TAIL_BYTES, limit)


class BoundedLog:
    """Writes a job's output, limits its lines and its size, and marks where output is missing.

    The beginning of the output is written at once, up to the limit. Of what follows, the last
    bytes are kept in memory (``tail_limit``) and written at the end, behind a mark.
    """

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._written = 0
        self._line = 0  # bytes of the current line, including those that were cut
        self._ends_line = True
        self._beyond = 0  # bytes that came after the limit
        self._tail: deque[bytes] = deque()  # the last of them
        self._tail_bytes = 0

    def take(self, chunk: bytes) -> None:
        """Write up to READ_BYTES of output. Raises OSError if the disk cannot store them."""
        self._write(self._cut_lines(chunk))

    def finish(self) -> None:
        """Write the marks for missing output. Raises OSError."""
        if self._line > LINE_LIMIT_BYTES:
            self._write(_line_mark(self._line) + b"\n")
        if self._beyond:
            self._write_tail()

    def _write_tail(self) -> None:
        """Write the end of the output; if something is missing, from the start of a line on."""
        tail = b"".join(self._tail)[-tail_limit(self._limit) :]
        cut = self._beyond - len(tail)
        if cut:
            line = tail.find(b"\n") + 1 if len(tail) > 1 else 0
            tail, cut = tail[line:], cut + line
            limit = _size(self._limit)
            self.note(f"the log's limit of {limit} is reached: {cut} bytes were cut here")
        write_all(self._descriptor, tail)
        self._ends_line = tail.endswith(b"\n")

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
        if fits:
            write_all(self._descriptor, fits)
            self._written += len(fits)
            self._ends_line = fits.endswith(b"\n")
        if len(fits) < len(data):
            self._keep(data[len(fits) :])

    def _keep(self, rest: bytes) -> None:
        """Keep output that came after the limit, and forget what is too far from its end."""
        self._beyond += len(rest)
        self._tail.append(rest)
        self._tail_bytes += len(rest)
        while self._tail_bytes - len(self._tail[0]) >= tail_limit(self._limit):
            self._tail_bytes -= len(self._tail.popleft())


def _line_mark(length: int) -> bytes:
    return b" [boxsched: %d bytes of this line were cut]" % (length - LINE_LIMIT_BYTES)


def _size(limit: int) -> str:
    return f"{limit // MIB} MiB" if limit % MIB == 0 else f"{limit} bytes"
