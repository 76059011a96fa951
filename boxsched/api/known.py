"""Projects as submissions need them: settings parsed and jobs shaped once a version.

What is kept may be old: another node may have changed it. A submission names the version that it
was checked against, and the store refuses another (``ProjectChanged``); then it is read anew.
"""

import re

import attrs
import msgspec

from boxsched.api import checks
from boxsched.api.schema import PROJECT_NAME, ProjectSettings
from boxsched.errors import NotFound
from boxsched.node import DEFAULT_BOX_TYPE
from boxsched.store.contract import Store
from boxsched.store.values import JobSpec, Project

KEPT_AT_MOST = 1_000

_NAME = re.compile(PROJECT_NAME)
_settings = msgspec.json.Decoder(ProjectSettings)


@attrs.frozen
class Known:
    project: Project
    settings: ProjectSettings
    jobs: tuple[JobSpec, ...]  # of a build that brings none

    @classmethod
    def of(cls, project: Project) -> "Known":
        settings = _settings.decode(project.settings)
        return cls(project, settings, checks.specs(settings.jobs, DEFAULT_BOX_TYPE))


def is_project_name(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


class KnownProjects:
    """Looks projects up, and keeps what it found; also the plan, which is the node's own option."""

    def __init__(self, store: Store, plan: int | None) -> None:
        self._store = store
        self._kept: dict[str, Known] = {}
        self.plan = plan

    async def get(self, name: str) -> Known:
        """Raises NotFound."""
        known = self._kept.get(name)
        return known if known is not None else await self.fresh(name)

    async def fresh(self, name: str) -> Known:
        """As it is in the store now; raises NotFound."""
        self._kept.pop(name, None)
        project = await self._store.project(name) if is_project_name(name) else None
        if project is None:
            raise NotFound("there is no such project")
        return self.keep(project)

    def keep(self, project: Project) -> Known:
        if len(self._kept) >= KEPT_AT_MOST:
            self._kept.clear()
        known = self._kept[project.name] = Known.of(project)
        return known

    def forget(self, name: str) -> None:
        self._kept.pop(name, None)
