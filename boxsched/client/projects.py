"""The calls about projects."""

from datetime import datetime

import msgspec

from boxsched.client.http import Line, path
from boxsched.client.operating import read
from boxsched.client.records import Project, Settings


class ProjectCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What putting settings would do. ``changed``: the names of the fields that differ; ``etag``:
    of the project as it is, None where there is none."""

    created: bool
    changed: list[str]
    etag: str | None
    before: Settings | None
    after: Settings


class ProjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a project's settings; ``reverts``: the version whose settings came back. ``at``
    and ``by`` are None where an earlier release wrote it, ``settings`` in a list."""

    version: int
    at: datetime | None
    by: str | None
    changed: list[str]
    reverts: int | None
    settings: Settings | None = None


class ProjectHistory(msgspec.Struct, frozen=True, kw_only=True):
    """``etag``: of the project as it was before this was read."""

    versions: list[ProjectVersion]
    next_cursor: str | None
    etag: str


class Projects:
    """A part of ``Client``."""

    _line: Line

    async def projects(self) -> list[Project]:
        """All projects, by name."""
        _, body = await self._line.call("GET", path("projects"))
        return [Project.read(one) for one in read(dict[str, list[Settings]], body)["projects"]]

    async def project(self, name: str) -> Project:
        _, body = await self._line.call("GET", path("projects", name))
        return Project.read(read(Settings, body))

    async def put_project(self, name: str, settings: Settings) -> bool:
        """Create or replace a project's settings; True where it was created."""
        status, _ = await self._line.call("PUT", path("projects", name), body=settings)
        return status == 201

    async def check_project(self, name: str, settings: Settings) -> ProjectCheck:
        """Check settings, and compare them with the project's; nothing is changed."""
        where = path("projects", name, "check")
        _, body = await self._line.call("POST", where, body=settings, repeat=True)
        return read(ProjectCheck, body)

    async def put_checked_project(self, name: str, settings: Settings, etag: str | None) -> bool:
        """``put_project`` if the project is as ``check_project`` found it, else Outdated is
        raised. So it is where the answer to a first attempt was lost: check again."""
        headers = {"If-None-Match": "*"} if etag is None else {"If-Match": f'"{etag}"'}
        where = path("projects", name)
        status, _ = await self._line.call("PUT", where, body=settings, headers=headers)
        return status == 201

    async def delete_project(self, name: str) -> None:
        """Raises Conflict while the project has unfinished workloads."""
        await self._line.call("DELETE", path("projects", name))

    async def project_history(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> ProjectHistory:
        """Versions of the project's settings, latest first, without the settings themselves."""
        said = {"limit": None if limit is None else str(limit), "cursor": cursor}
        query = {field: value for field, value in said.items() if value is not None}
        _, body = await self._line.call("GET", path("projects", name, "history"), query=query)
        return read(ProjectHistory, body)

    async def project_version(self, name: str, version: int) -> ProjectVersion:
        """A version with its settings."""
        _, body = await self._line.call("GET", path("projects", name, "history", str(version)))
        return read(ProjectVersion, body)

    async def revert_project(self, name: str, version: int, *, etag: str | None = None) -> Project:
        """Bring back the settings of a version, as a new version; secrets stay as they are. With
        ``etag`` only if the project is still as it was then, else Outdated is raised."""
        headers = {} if etag is None else {"If-Match": f'"{etag}"'}
        _, body = await self._line.call(
            "POST",
            path("projects", name, "revert"),
            body={"version": version},
            headers=headers,
            repeat=etag is None,
        )
        return Project.read(read(Settings, body))
