"""The workspace of an attempt that does not run, as the agent sees it."""

import contextlib
import os
from collections.abc import Iterator

from boxsched.worker.agent.attempt import Attempt
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files

MIB = 1 << 20


@contextlib.contextmanager
def workspace(attempt: Attempt) -> Iterator[int]:
    """Open the workspace of an attempt that has ended. Raises OSError, if it is gone, too."""
    box = safe_files.open_folder(files.BOX, attempt.folder.at)
    try:
        descriptor = safe_files.open_folder(os.path.basename(files.WORKSPACE), box)
    finally:
        os.close(box)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def note(attempt: Attempt, text: str) -> None:
    """Add a line to the log of an attempt without a supervisor. A full disk loses the line."""
    line = "".join(char if char.isprintable() else "?" for char in text)
    with contextlib.suppress(OSError, safe_files.Damaged):
        log = safe_files.open_regular(attempt.folder.at, files.LOG, os.O_RDWR | os.O_APPEND)
        try:
            size = os.fstat(log).st_size
            newline = "" if size == 0 or os.pread(log, 1, size - 1) == b"\n" else "\n"
            text = f"{newline}[boxsched: {line}"
            safe_files.write_all(log, text.encode(errors="replace")[:1_000] + b"]\n")
        finally:
            os.close(log)


def shown_size(size: int) -> str:
    return f"{size / MIB:.1f} MiB" if size >= MIB else f"{size} bytes"


def counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
