"""The time before each line of a log.

It is the time at which the node stored the line's first byte, by the database's clock. A worker
sends new output several times a second; after an outage it sends what it kept, so those lines have
the time at which they arrived.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from boxsched.store.steps.logs import TimedOutput

_UNKNOWN = b"-" * len("2026-01-02T03:04:05.006Z") + b" "


class LineStamps:
    def __init__(self) -> None:
        self._within_line = False

    def add(self, chunks: Sequence[TimedOutput]) -> bytes:
        """Return the output with the time before each line that begins in it."""
        stamped = []
        for data, at in chunks:
            stamp = _UNKNOWN if at is None else _stamp(at)
            for line in data.split(b"\n")[:-1]:
                stamped.append(b"%b%b\n" % (b"" if self._within_line else stamp, line))
                self._within_line = False
            rest = data[data.rfind(b"\n") + 1 :]
            if rest:
                stamped.append(rest if self._within_line else stamp + rest)
                self._within_line = True
        return b"".join(stamped)

    def begin_line(self) -> None:
        """What follows begins a line: it is of another attempt."""
        self._within_line = False


def _stamp(at: float) -> bytes:
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z ").encode()
