"""Who reads next: a limit for all, and a smaller one for each project."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from boxsched.model import ProjectId


class Turns:
    """At most ``at_once`` turns at the same time, and ``of_one`` of them for one project.

    So a project whose repository hangs delays its own builds, and not those of the others.
    """

    def __init__(self, at_once: int, of_one: int) -> None:
        self._all = asyncio.Semaphore(at_once)
        self._of_one = of_one
        self._projects: dict[ProjectId, tuple[asyncio.Semaphore, int]] = {}  # and who uses it

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
