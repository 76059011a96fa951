"""Settings: the organization's queue, and the projects."""

from collections.abc import Iterable, Mapping, Sequence

import attrs
import msgspec

from boxsched.errors import Conflict, Outdated
from boxsched.model import OrganizationId, ProjectId, full_name, short_name
from boxsched.protocol import inbox
from boxsched.protocol.artifacts import ProjectCache
from boxsched.protocol.assignments import CloneOptions
from boxsched.protocol.followed import followed
from boxsched.protocol.schedules import NewSchedule
from boxsched.protocol.shards import Project
from boxsched.store import rows
from boxsched.store.blocks import Steps, load
from boxsched.store.records import SweptProjects
from boxsched.store.steps.commands import add_commands
from boxsched.store.steps.notifications import Target, drop_targets, put_targets
from boxsched.store.steps.pauses import drop_pauses_of_project
from boxsched.store.steps.project_versions import (
    ABSENT,
    Edit,
    add_version,
    drop_versions,
    keep_former,
)
from boxsched.store.steps.schedules import drop_schedules, put_schedules
from boxsched.store.steps.secrets import GIT_CREDENTIALS, WEBHOOK_SECRET, Seal, drop_secrets
from boxsched.store.steps.servers import drop_servers

_SQL = load("projects.sql")
CHANGED_MEANWHILE = "somebody else has changed the project in the meantime: read it again"
BEFORE_SECONDS = 86_400.0  # how long the previous webhook secret stays valid


class _Settings(msgspec.Struct):
    """The fields that the store itself reads from a project's settings."""

    repository: str | None = None
    clone: CloneOptions | None = None
    cache: tuple[str, ...] = ()
    default_branch: str | None = None


_settings = msgspec.json.Decoder(_Settings)


def put_project(
    name: str,
    settings: str,
    max_boxes: int | None,
    sealed: Mapping[str, Seal | None],
    targets: Sequence[Target],
    edit: Edit,
    schedules: Sequence[NewSchedule],
    now: float,
    organization: OrganizationId,
) -> Steps[tuple[Project, bool]]:
    whole = full_name(organization, name)
    placed = yield _SQL["lock_organization"](organization=organization)
    if not placed:
        raise Conflict("the organization was deleted")
    ((shard,),) = placed
    found = yield _SQL["lock_version"](name=whole)
    there = (ProjectId(found[0][0]), found[0][1]) if found else ABSENT
    if edit.onto is not None and edit.onto != there:
        raise Outdated(CHANGED_MEANWHILE)
    if there != ABSENT:
        yield keep_former(there[0])
    read = _settings.decode(settings)
    written = yield _SQL["put_project"](
        organization=organization,
        name=whole,
        settings=settings,
        repository=read.repository,
        clone=None if read.clone is None else rows.json_text(read.clone),
        cache=rows.json_text(ProjectCache(read.cache, read.default_branch)) if read.cache else None,
        max_boxes=max_boxes,
    )
    project = rows.project(written[0])
    if edit.onto == ABSENT and project.version > 1:  # another transaction has just created it
        raise Outdated(CHANGED_MEANWHILE)
    yield from add_version(project.id, edit)
    for place, seal in sealed.items():
        text = None if seal is None else seal(project.id, 1)
        if place == WEBHOOK_SECRET:
            project = yield from _set_webhook_secret(project, text)
        else:
            assert place == GIT_CREDENTIALS
            yield _SQL["set_git_credentials"](project=project.id, sealed=text)
    yield from put_targets(project.id, targets)
    yield from put_schedules(project.id, project.version, schedules, now)
    yield add_commands(
        shard,
        [
            inbox.written(
                inbox.ProjectSet(
                    project.id,
                    project.name,
                    max_boxes,
                    followed=dict(followed(settings)),
                    notifies=bool(targets),
                )
            )
        ],
    )
    return project, project.version == 1


def _set_webhook_secret(project: Project, sealed: str | None) -> Steps[Project]:
    ((now, before, until),) = yield _SQL["set_webhook_secret"](
        project=project.id, sealed=sealed, seconds=BEFORE_SECONDS
    )
    return attrs.evolve(
        project, webhook_secret=now, webhook_secret_before=before, webhook_secret_until=until
    )


def project(name: str, organization: OrganizationId) -> Steps[Project | None]:
    found = yield _SQL["project"](name=full_name(organization, name))
    return rows.project(found[0]) if found else None


def project_id(name: str, organization: OrganizationId) -> Steps[ProjectId | None]:
    found = yield _SQL["project_id"](name=full_name(organization, name))
    return ProjectId(found[0][0]) if found else None


def project_names(ids: Iterable[ProjectId]) -> Steps[dict[ProjectId, str]]:
    found = yield _SQL["project_names"].rows([(id_,) for id_ in sorted(set(ids))])
    return {ProjectId(id_): short_name(name) for id_, name in found}


def projects(organization: OrganizationId) -> Steps[list[Project]]:
    return [rows.project(row) for row in (yield _SQL["projects"](organization=organization))]


def delete_project(name: str, organization: OrganizationId) -> Steps[bool]:
    buried = yield _SQL["bury_project"](name=full_name(organization, name))
    if not buried:
        return False
    project, shard = buried[0]
    if (yield _SQL["unfinished_of_project"](project=project)):
        raise Conflict(f"{name} has unfinished workloads: stop them, or let them finish")
    yield _SQL["forget_durations"](project=project)
    yield from drop_pauses_of_project(project, shard)
    yield drop_secrets(project)
    yield drop_versions(project)
    yield drop_targets(project)
    yield from drop_schedules(project)
    yield drop_servers(project)
    yield add_commands(shard, [inbox.written(inbox.ProjectSet(project, name, None, deleted=True))])
    return True


def sweep_projects(after: ProjectId, limit: int) -> Steps[SweptProjects]:
    found = yield _SQL["slice_of_projects"](after=after, limit=limit)
    if not found:
        return SweptProjects(None, 0)
    last = ProjectId(found[-1][0])
    dropped = yield _SQL["drop_deleted_projects"](after=after, last=last)
    return SweptProjects(last if len(found) == limit else None, len(dropped))
