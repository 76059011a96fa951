"""Pauses: begin and end them; the leader is notified through its inbox."""

import attrs

from boxsched.errors import Conflict, Invalid
from boxsched.model import MAX_PAUSES, OrganizationId
from boxsched.protocol import inbox
from boxsched.protocol.shards import Pause
from boxsched.store import rows
from boxsched.store.blocks import Steps, load
from boxsched.store.steps.commands import add_commands

_SQL = load("pauses.sql")


def put_pause(pause: Pause, organization: OrganizationId) -> Steps[bool]:
    if pause.project is not None and not (yield _SQL["lock_living"](project=pause.project)):
        raise Invalid("the project was deleted", "project")
    there = yield _SQL["pause_there"](organization=organization, name=pause.name)
    ((others,),) = yield _SQL["count_pauses"](organization=organization, name=pause.name)
    if others >= MAX_PAUSES:
        raise Conflict(f"there are {others} pauses already: end some first")
    yield from _put(organization, pause)
    return not there


def _put(organization: OrganizationId, pause: Pause) -> Steps[None]:
    ((shard,),) = yield _SQL["put_pause"](
        organization=organization,
        name=pause.name,
        project=pause.project,
        branch=pause.branch,
        server=pause.server,
        automatic=pause.automatic,
        note=pause.note,
        set_by=pause.by,
        since=pause.since,
        until=pause.until,
    )
    command = inbox.PauseSet(
        pause.name, pause.project, pause.branch, pause.server, pause.automatic, pause.note,
        pause.by, pause.since, pause.until,
    )  # fmt: skip
    yield add_commands(shard, [inbox.written(command)])


def hold_after_rollback(organization: OrganizationId, pause: Pause) -> Steps[None]:
    """Set the pause under its name, or with the project's id appended if another project uses the
    name.

    It does not count for MAX_PAUSES: there is at most one for each server, and a rollback, with
    everything submitted together with it, must not fail because of the limit.
    """
    found = yield _SQL["project_of_pause"](organization=organization, name=pause.name)
    if found and found[0][0] != pause.project:
        pause = attrs.evolve(pause, name=f"{pause.name}-{pause.project}")
    yield from _put(organization, pause)


def drop_pause(name: str, by: str, organization: OrganizationId) -> Steps[bool]:
    dropped = yield _SQL["drop_pause"](organization=organization, name=name)
    if not dropped:
        return False
    ((shard,),) = dropped
    yield add_commands(shard, [inbox.written(inbox.PauseEnded(name, by))])
    return True


def pauses(organization: OrganizationId) -> Steps[list[Pause]]:
    return [rows.pause(row) for row in (yield _SQL["pauses"](organization=organization))]


def drop_pauses_of_project(project: int, shard: int) -> Steps[None]:
    """End the pauses of a deleted project, and delete its lanes."""
    dropped = yield _SQL["drop_pauses_of_project"](project=project)
    yield _SQL["forget_lanes_of_project"](project=project)
    if dropped:
        by = "the deletion of the project"
        yield add_commands(
            shard, [inbox.written(inbox.PauseEnded(name, by)) for (name,) in dropped]
        )
