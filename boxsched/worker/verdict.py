"""What decides a job's end, and what that is called.

Imported by the spawner: standard library only, and little of it.
"""

import re
import signal

from boxsched.worker import folder as files

_COMMIT = re.compile(rb"[0-9a-f]{7,64}")


def why(error: OSError, doing: str) -> str:
    return files.DISK_FULL if error.errno in files.FULL_ERRORS else f"{doing}: {error.strerror}"


def ending(status: int) -> str:
    if status >= 0:
        return f"exit status {status}"
    try:
        return f"signal {signal.Signals(-status).name}"
    except ValueError:
        return f"signal {-status}"


def commit(path: str) -> str | None:
    """What git printed into the file, where that is a commit and nothing else."""
    try:
        name = (files.read_file(path) or b"").strip()
    except files.Damaged:
        return None
    return name.decode() if _COMMIT.fullmatch(name) else None


def grace(folder: str) -> float | None:
    """How many seconds a stop leaves to the job; None while nobody asks for one."""
    try:
        text = files.read_file(f"{folder}/{files.STOP}")
        return None if text is None else float(text)
    except (files.Damaged, ValueError):
        return 0.0  # the job's own doing
    except OSError:
        return None  # no descriptor is left in the machine: at the next look
