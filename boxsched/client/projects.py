"""The calls about projects."""

from datetime import datetime

import msgspec

from boxsched.client.http import ServiceLine, path
from boxsched.client.operating import read
from boxsched.client.records import Project, Settings


class ProjectCheck(msgspec.Struct, frozen=True, kw_only=True):
    """What ``put_project`` would change. ``changed``: the names of the fields that differ.
    ``etag``: the project's current ETag; None if the project does not exist.
    """

    created: bool
    changed: list[str]
    etag: str | None
    before: Settings | None
    after: Settings


class ProjectVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a project's settings. ``reverts``: the version that it returned to. ``at`` and
    ``by`` are None if an earlier release wrote it; ``settings`` is None in a list.
    """

    version: int
    at: datetime | None
    by: str | None
    changed: list[str]
    reverts: int | None
    settings: Settings | None = None


class ProjectHistory(msgspec.Struct, frozen=True, kw_only=True):
    """A page of versions. ``etag``: the project's ETag just before this was read."""

    versions: list[ProjectVersion]
    next_cursor: str | None
    etag: str


class Projects:
    """A part of ``Client``."""

    _line: ServiceLine

    async def projects(self) -> list[Project]:
        """Return all projects, sorted by name."""
        _, body = await self._line.call("GET", path("projects"))
        return [Project.read(one) for one in read(dict[str, list[Settings]], body)["projects"]]

    async def project(self, name: str) -> Project:
        _, body = await self._line.call("GET", path("projects", name))
        return Project.read(read(Settings, body))

    async def put_project(self, name: str, settings: Settings) -> bool:
        """Create or replace a project's settings; return whether it was created."""
        status, _ = await self._line.call("PUT", path("projects", name), body=settings)
        return status == 201

    async def check_project(self, name: str, settings: Settings) -> ProjectCheck:
        """Check settings and compare them with the project's; change nothing."""
        where = path("projects", name, "check")
        _, body = await self._line.call("POST", where, body=settings, repeat=True)
        return read(ProjectCheck, body)

    async def put_checked_project(self, name: str, settings: Settings, etag: str | None) -> bool:
        """Like ``put_project``, but raise Outdated if the project has changed since
        ``check_project``. Also raised if the answer to a first attempt was lost: check again.
        """
        headers = {"If-None-Match": "*"} if etag is None else {"If-Match": f'"{etag}"'}
        where = path("projects", name)
        status, _ = await self._line.call("PUT", where, body=settings, headers=headers)
        return status == 201

    async def delete_project(self, name: str) -> None:
        """Delete a project. Raises Conflict while it has unfinished workloads."""
        await self._line.call("DELETE", path("projects", name))

    async def project_history(
        self, name: str, *, limit: int | None = None, cursor: str | None = None
    ) -> ProjectHistory:
        "Return versions of the project's settings, latest first, without the settings"
        "themselves."
        said = {"limit": None if limit is None else str(limit), "cursor": cursor}
        query = {field: value for field, value in said.items() if value is not None}
        _, body = await self._line.call("GET", path("projects", name, "history"), query=query)
        return read(ProjectHistory, body)

    async def project_version(self, name: str, version: int) -> ProjectVersion:
        """Return a version with its settings."""
        _, body = await self._line.call("GET", path("projects", name, "history", str(version)))
        return read(ProjectVersion, body)

    async def revert_project(self, name: str, version: int, *, etag: str | None = None) -> Project:
        """Store the settings of a version as a new version. Secrets stay unchanged. With ``etag``,
        raise Outdated if the project has changed since then.
        """
        headers = {} if etag is None else {"If-Match": f'"{etag}"'}
        _, body = await self._line.call(
            "POST",
            path("projects", name, "revert"),
            body={"version": version},
            headers=headers,
            repeat=etag is None,
        )
        return Project.read(read(Settings, body))
