"""The versions of a project's settings: who changed them, when, and which fields."""

from collections.abc import Sequence

import attrs
import msgspec

from boxsched.model import ProjectId
from boxsched.store.blocks import Call, Steps, load
from boxsched.store.mapping import mapper

_SQL = load("project_versions.sql")

KEPT_VERSIONS = 100  # stored versions of a project
ABSENT = (ProjectId(0), 0)


@attrs.frozen
class Edit:
    """A change of a project's settings.

    ``by``: who changes them. ``changed``: names of fields. ``reverts``: the version that it returns
    to. ``onto``: the id and version of the project that the change was made for; ABSENT: there was
    no project; None: any version.
    """

    by: str = ""
    changed: Sequence[str] = ()
    reverts: int | None = None
    onto: tuple[ProjectId, int] | None = None


UNKNOWN_EDIT = Edit()


@attrs.frozen
class StoredVersion:
    """A version of a project. ``by`` and ``at`` (seconds since 1970) may be unknown."""

    version: int
    changed: tuple[str, ...]
    reverts: int | None
    by: str | None
    at: float | None
    settings: str = ""  # only if it was requested


_fields = msgspec.json.Decoder(tuple[str, ...]).decode
_columns = {"by": "changed_by", "at": "changed_at"}
_listed = mapper(StoredVersion, _SQL["versions"].returns, columns_of=_columns, changed=_fields)
_whole = mapper(StoredVersion, _SQL["version"].returns, columns_of=_columns, changed=_fields)


def keep_former(project: ProjectId) -> Call:
    return _SQL["keep_former"](project=project)


def add_version(project: ProjectId, edit: Edit) -> Steps[None]:
    """Store the new settings as a version; delete the oldest one beyond KEPT_VERSIONS."""
    yield _SQL["add_version"](
        project=project,
        changed=msgspec.json.encode(edit.changed).decode(),
        reverts=edit.reverts,
        changed_by=edit.by,
    )
    yield _SQL["drop_old_versions"](project=project, kept=KEPT_VERSIONS)


def drop_versions(project: ProjectId) -> Call:
    return _SQL["drop_versions"](project=project)


def versions(project: ProjectId, before: int, limit: int) -> Steps[list[StoredVersion]]:
    found = yield _SQL["versions"](project=project, before=before, limit=limit)
    return [_listed(row) for row in found]


def version(project: ProjectId, number: int) -> Steps[StoredVersion | None]:
    found = yield _SQL["version"](project=project, version=number)
    return _whole(found[0]) if found else None
