"""Servers: what is live, what waits, and which passed builds must be deployed."""

from collections.abc import Sequence

import attrs

from boxsched.model import Kind, OrganizationId, ProjectId, WorkloadId, lane_key
from boxsched.protocol.batches import DeployDue
from boxsched.protocol.shards import Pause
from boxsched.store.blocks import Call, Steps, load
from boxsched.store.records import NewWorkload, ServerState
from boxsched.store.steps import pauses

_SQL = load("servers.sql")

WAITING_AT_MOST = 500


def deploys_due(limit: int) -> Steps[list[DeployDue]]:
    found = yield _SQL["due"](limit=limit)
    return [DeployDue(WorkloadId(build), server) for build, server in found]


def drop_due(due: DeployDue) -> Steps[None]:
    yield _SQL["drop_due"](build=due.build, server=due.server)


def newer_there(project: ProjectId, server: str, build: WorkloadId) -> Steps[bool]:
    lane = lane_key(Kind.DEPLOY, project, None, None, server)
    found = yield _SQL["newer_there"](project=project, server=server, lane=lane, build=build)
    return bool(found)


def overtaken(group: Sequence[NewWorkload], indexes: Sequence[int]) -> Steps[set[int]]:
    """The automatic deploys, of these of a group, whose server has or gets a newer build.

    Read behind the project's lock, so that no deploy that a person asks for at this moment is
    followed by an older build. Next to another deploy of the group it is looked at again.
    """
    found: set[int] = set()
    for index in indexes:
        new = group[index]
        if not new.automatic or new.server is None or new.build is None:
            continue
        place = new.project, new.server
        beside = any(one is not new and (one.project, one.server) == place for one in group)
        if beside or (yield from newer_there(*place, new.build)):
            found.add(index)
    return found


def servers(project: ProjectId, names: Sequence[str]) -> Steps[dict[str, ServerState]]:
    live: dict[str, WorkloadId] = dict((yield _SQL["live"](project=project)))
    waiting: dict[str, list[WorkloadId]] = {}
    lanes = [(name, lane_key(Kind.DEPLOY, project, None, None, name)) for name in names]
    for server, workload in (yield _SQL["waiting"].rows(lanes, limit=WAITING_AT_MOST)):
        waiting.setdefault(server, []).append(WorkloadId(workload))
    latest: dict[str, WorkloadId | None] = dict(
        (yield _SQL["latest"].rows([(name,) for name in names], project=project))
    )
    return {
        name: ServerState(live.get(name), latest.get(name), tuple(waiting.get(name, ())))
        for name in names
    }


def drop_servers(project: ProjectId) -> Call:
    return _SQL["drop_servers"](project=project)


def with_rollbacks(group: Sequence[NewWorkload]) -> Steps[list[NewWorkload]]:
    """Mark manual deploys of a build that is older than the live one as rollbacks."""
    asked = {(new.project, new.server) for new in group if _may_be_rollback(new)}
    if not asked:
        return list(group)
    live = {
        (project, server): build
        for project, server, build in (yield _SQL["live_builds"].rows(sorted(asked)))
    }
    builds = sorted({new.build for new in group if _may_be_rollback(new) and new.build})
    numbers: dict[WorkloadId | None, int] = dict(
        (yield _SQL["number_of_build"].rows([(build,) for build in builds]))
    )
    return [
        attrs.evolve(new, rollback=True)
        if _may_be_rollback(new)
        and numbers.get(new.build, 0) < live.get((new.project, new.server), 0)
        else new
        for new in group
    ]


def hold_after_rollback(organization: OrganizationId, new: NewWorkload, number: int) -> Steps[None]:
    """Pause automatic deploys to the server until someone resumes them."""
    assert new.server is not None
    pause = Pause(
        f"rollback-{new.server}", new.project, None, new.server, automatic=True,
        note=f"deploy #{number} went back to an older build", by=new.submitted_by or "rollback",
        since=new.created_at, until=None,
    )  # fmt: skip
    yield from pauses.hold_after_rollback(organization, pause)


def _may_be_rollback(new: NewWorkload) -> bool:
    return new.server is not None and new.build is not None and not new.automatic
