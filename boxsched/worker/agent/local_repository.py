"""Repositories on the worker's own disk, for jobs that are isolated.

Git sees the repository alone, read-only, at a fixed path, and only in the steps that fetch. It is
the folder with its objects and refs: a project may name any path, and must not read other files by
that. In these steps nothing of the project runs: git gets none of the job's variables.
"""

import os
from collections.abc import Mapping
from typing import NamedTuple

from boxsched.worker.supervisor.isolation import GIT_CONFIG, REPOSITORY, Isolation

FILE = "file://"
_INSIDE = ("/.git", "", ".git/.git", ".git")  # where git looks, in its order


class NotShown(Exception):
    """The message says why an isolated git cannot read it."""


class LocalRepository(NamedTuple):
    """``url``: what the clone has as its origin. ``folder``: where its objects and refs are."""

    url: str
    folder: str

    @property
    def configuration(self) -> Mapping[str, str]:
        """Environment variables by which an isolated git finds it."""
        return {
            "GIT_CONFIG_GLOBAL": GIT_CONFIG,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{REPOSITORY}.insteadOf",
            "GIT_CONFIG_VALUE_0": self.url,
        }


def local_repository(repository: str | None, walls: Isolation | None) -> LocalRepository | None:
    """Return the repository that git has to be shown; None if there is nothing to show.

    Raises NotShown.
    """
    if walls is None or repository is None or not repository.startswith(("/", FILE)):
        return None
    path = repository.removeprefix(FILE)
    found = next(filter(_is_repository, (f"{path}{inside}" for inside in _INSIDE)), None)
    folder = None if found is None else os.path.realpath(found)
    if folder is None or _is_private(folder, walls):
        raise NotShown(f"there is no git repository at {path} on this worker that jobs can read")
    if not walls.repositories and not any(_is_below(folder, seen) for seen in walls.readable):
        raise NotShown(
            f"its repository {path} is on the worker's disk, where isolated jobs do not see it: "
            f"start the worker with --box-readable {path}"
        )
    return LocalRepository(f"{FILE}{path}", folder)


def _is_private(folder: str, walls: Isolation) -> bool:
    """Whether the folder is in the worker's data folder, or contains what is hidden."""
    in_data = walls.data is not None and _is_below(folder, walls.data)
    return in_data or any(_is_below(hidden, folder) for hidden in walls.hidden)


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder.rstrip('/')}/")


def _is_repository(path: str) -> bool:
    return os.path.isfile(f"{path}/HEAD") and all(
        os.path.isdir(f"{path}/{name}") for name in ("objects", "refs")
    )
