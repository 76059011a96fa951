"""What a job is given in secret: written by the agent, taken by the supervisor as it starts.

The file is on the worker's disk only from the preparation of an attempt to its start; a supervisor
has to find it, also if the agent has died since. Its mode is 0600, in a folder of mode 0700.

Imported by the spawner: standard library only, and little of it.
"""

import contextlib
import json
import os
from typing import NamedTuple

from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.masking import Masks

GIVEN = "given"
GONE = "its secrets are gone from the worker's disk"
FOLDER = "secrets"  # in the job's box: a file for each secret that is given as one

_BYTES_AT_MOST = 8 << 20


class Given(NamedTuple):
    """``variables`` and ``files`` by the names of variables; ``hidden`` are further values that
    are masked in the log."""

    variables: dict[str, str]
    files: dict[str, str]
    hidden: list[str]

    def __repr__(self) -> str:
        return f"Given({sorted(self.variables)}, {sorted(self.files)})"  # never a value

    @property
    def masks(self) -> Masks:
        return Masks([*self.variables.values(), *self.files.values(), *self.hidden])


NOTHING = Given({}, {}, [])


def write(at: int, given: Given) -> None:
    """Raises OSError."""
    safe_files.write_file(at, GIVEN, json.dumps(given).encode())


def read(at: int) -> Given | None:
    """None where it is gone. Raises Damaged."""
    data = safe_files.read_file(at, GIVEN, _BYTES_AT_MOST)
    if data is None:
        return None
    try:
        return Given(*json.loads(data))
    except (ValueError, TypeError, RecursionError):
        raise safe_files.Damaged("what it is given is of another form") from None


def remove(at: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(GIVEN, dir_fd=at)


def lay_out(box: int, path: str, given: Given) -> dict[str, str]:
    """Write the files into a folder of their own in the job's box, which is called ``path``; return
    the variables that hold their paths. Raises OSError."""
    if not given.files:
        return {}
    safe_files.remove_tree(box, FOLDER)
    os.mkdir(FOLDER, 0o700, dir_fd=box)
    folder = safe_files.open_folder(FOLDER, box)
    try:
        for name, value in given.files.items():
            safe_files.write_file(folder, name, value.encode())
    finally:
        os.close(folder)
    return {name: f"{path}/{FOLDER}/{name}" for name in given.files}
