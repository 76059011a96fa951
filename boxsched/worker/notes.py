"""The agent's reading of what a supervisor wrote: a job runs as the same user, so it is checked."""

from typing import TypeVar

import msgspec

from boxsched.worker.folder import Damaged, Ended, Running, Started, read_file

_LARGEST_PID = (1 << 31) - 1
_Note = TypeVar("_Note", Started, Running, Ended)


def note(folder: str, name: str, kind: type[_Note]) -> _Note | None:
    """None where it was not written yet; raises Damaged."""
    data = read_file(f"{folder}/{name}")
    if data is None:
        return None
    try:
        said = msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise Damaged(f"{name} is of another form: {error}") from None
    if isinstance(said, Started) and not 0 < said.pid <= _LARGEST_PID:
        raise Damaged(f"{name} names no process")
    return said
