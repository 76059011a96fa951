"""The settings that a project had: who changed them, when, and what was changed."""

from collections.abc import Sequence

import attrs
import msgspec

from boxsched.model import ProjectId
from boxsched.store.blocks import Call, Steps, load
from boxsched.store.mapping import mapper

_SQL = load("project_versions.sql")

KEPT_VERSIONS = 100  # of a project
ABSENT = (ProjectId(0), 0)


@attrs.frozen
class Edit:
    """Who changes a project's settings, and what.

    ``changed``: names of fields. ``reverts``: the version whose settings come back. ``onto``: the
    id and version of the project that the change was made for; ABSENT: there was none of its name;
    None: whatever is there.
    """

    by: str = ""
    changed: Sequence[str] = ()
    reverts: int | None = None
    onto: tuple[ProjectId, int] | None = None


UNKNOWN_EDIT = Edit()


@attrs.frozen
class ProjectVersion:
    """A version of a project. ``by`` and ``at`` (seconds since 1970) may be unknown."""

    version: int
    changed: tuple[str, ...]
    reverts: int | None
    by: str | None
    at: float | None
    settings: str = ""  # where it was asked for


_fields = msgspec.json.Decoder(tuple[str, ...]).decode
_columns = {"by": "changed_by", "at": "changed_at"}
_listed = mapper(ProjectVersion, _SQL["versions"].returns, columns_of=_columns, changed=_fields)
_whole = mapper(ProjectVersion, _SQL["version"].returns, columns_of=_columns, changed=_fields)


def keep_former(project: ProjectId) -> Call:
    return _SQL["keep_former"](project=project)


def add_version(project: ProjectId, edit: Edit) -> Steps[None]:
    """Keep what was just written as a version; the oldest one beyond KEPT_VERSIONS goes."""
    yield _SQL["add_version"](
        project=project,
        changed=msgspec.json.encode(edit.changed).decode(),
        reverts=edit.reverts,
        changed_by=edit.by,
    )
    yield _SQL["drop_old_versions"](project=project, kept=KEPT_VERSIONS)


def drop_versions(project: ProjectId) -> Call:
    return _SQL["drop_versions"](project=project)


def versions(project: ProjectId, before: int, limit: int) -> Steps[list[ProjectVersion]]:
    found = yield _SQL["versions"](project=project, before=before, limit=limit)
    return [_listed(row) for row in found]


def version(project: ProjectId, number: int) -> Steps[ProjectVersion | None]:
    found = yield _SQL["version"](project=project, version=number)
    return _whole(found[0]) if found else None
