"""Limit how many repositories are read at a time: in total, and for each project."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from boxsched.model import ProjectId


class Turns:
    """At most ``at_once`` turns at the same time, at most ``of_one`` of them for one project.

    So a project with a repository that hangs delays only its own builds.
    """

    def __init__(self, at_once: int, of_one: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._of_one = of_one
        # and the number of its users
        self._projects: dict[ProjectId, tuple[asyncio.Semaphore, int]] = {}

    @contextlib.asynccontextmanager
    async def turn(self, project: ProjectId) -> AsyncIterator[None]:
        its, users = self._projects.get(project, (asyncio.Semaphore(self._of_one), 0))
        self._projects[project] = its, users + 1
        try:
            async with its, self._all:
                yield
        finally:
            its, users = self._projects.pop(project)
            if users > 1:
                self._projects[project] = its, users - 1
