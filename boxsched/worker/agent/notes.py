"""Read and check a supervisor's notes. A job runs as the same user, so it can forge them."""

from typing import TypeVar

import msgspec

from boxsched import commits
from boxsched.worker.supervisor.folder import Ended, Found, Opened, Running, Started
from boxsched.worker.supervisor.safe_files import Damaged, read_file

_LARGEST_PID = (1 << 31) - 1
_LATEST = 1e11  # in the year 5138
_EXIT_STATUSES = range(256)
_Note = TypeVar("_Note", Started, Running, Found, Opened, Ended)


def note(at: int, name: str, kind: type[_Note]) -> _Note | None:
    """Return the note in the file ``name``; None if it does not exist yet. Raises Damaged."""
    data = read_file(at, name)
    if data is None:
        return None
    try:
        said = msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise Damaged(f"{name} has an unknown format: {error}") from None
    if isinstance(said, Started) and not 0 < said.pid <= _LARGEST_PID:
        raise Damaged(f"{name} names no process")
    if isinstance(said, Running) and not _is_time(said.at):
        raise Damaged(f"{name} says no time")
    if isinstance(said, Found) and not commits.is_whole(said.commit):
        raise Damaged(f"{name} names no commit")
    if isinstance(said, Ended):
        _check_end(said, name)
    return said


def _check_end(said: Ended, name: str) -> None:
    """Check what a node checks; it would reject this worker after an invalid report."""
    if not _is_time(said.at) or not (said.began_at is None or _is_time(said.began_at)):
        raise Damaged(f"{name} says no time")
    if said.seconds is not None and not _is_time(said.seconds):
        raise Damaged(f"{name} does not say how long it took")
    if said.exit_status is not None and said.exit_status not in _EXIT_STATUSES:
        raise Damaged(f"{name} contains no exit status")


def _is_time(at: float) -> bool:
    return 0 <= at <= _LATEST
