"""A job's secrets: the agent writes them into a file; the supervisor reads it when it starts.

The file exists only from the preparation of an attempt to its start, so that a supervisor can start
after the agent has died. Its mode is 0600, in a folder of mode 0700.

Imported by the spawner, so it imports only small modules of the standard library.
"""

import contextlib
import json
import os
from collections.abc import Callable
from typing import NamedTuple

from boxsched.git_access import GitAccess
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.masking import Masks

FILE_NAME = "given"
GONE = "its secrets are gone from the worker's disk"
FILES_FOLDER = "secrets"  # in the job's box: one file for each secret that is passed as a file

_BYTES_AT_MOST = 8 << 20


class JobSecrets(NamedTuple):
    """``variables`` and ``files``: values by the names of variables.

    ``hidden``: further values that are masked in the log. ``access``: the credentials of git, which
    the job does not get; they are masked too.
    """

    variables: dict[str, str]
    files: dict[str, str]
    hidden: list[str]
    access: GitAccess | None = None

    def __repr__(self) -> str:
        return f"JobSecrets({sorted(self.variables)}, {sorted(self.files)})"  # never a value

    @property
    def masks(self) -> Masks:
        of_git = [] if self.access is None else [self.access.secret]
        return Masks([*self.variables.values(), *self.files.values(), *self.hidden, *of_git])


NO_SECRETS = JobSecrets({}, {}, [])


def write(at: int, secrets: JobSecrets) -> None:
    """Write the file. Raises OSError."""
    safe_files.write_file(at, FILE_NAME, json.dumps(secrets).encode())


def read(at: int) -> JobSecrets | None:
    """Return the secrets, None if the file is gone. Raises Damaged."""
    data = safe_files.read_file(at, FILE_NAME, _BYTES_AT_MOST)
    if data is None:
        return None
    try:
        found = JobSecrets(*json.loads(data))
        return found._replace(access=found.access and GitAccess(*found.access))
    except (ValueError, TypeError, RecursionError):
        raise safe_files.Damaged("the file of its secrets has an unknown format") from None


def remove(at: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(FILE_NAME, dir_fd=at)


def write_files(
    box: int, path: str, secrets: JobSecrets, give: Callable[[int], None] = lambda descriptor: None
) -> dict[str, str]:
    """Write the secrets that are files into a folder in the job's box.

    ``box``: the box's descriptor. ``path``: its path for the job. ``give`` makes the job's user the
    owner of a file. Return the variables that contain the files' paths. Raises OSError.
    """
    if not secrets.files:
        return {}
    safe_files.remove_tree(box, FILES_FOLDER)
    os.mkdir(FILES_FOLDER, 0o700, dir_fd=box)
    folder = safe_files.open_folder(FILES_FOLDER, box)
    try:
        give(folder)
        for name, value in secrets.files.items():
            safe_files.write_file(folder, name, value.encode(), give=give)
    finally:
        os.close(folder)
    return {name: f"{path}/{FILES_FOLDER}/{name}" for name in secrets.files}
