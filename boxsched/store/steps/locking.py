"""Lock projects' rows: only the transaction with the lock issues numbers, and it sees all earlier
ones."""

import math
from collections.abc import Iterable, Mapping

import attrs
import msgspec

from boxsched.model import OrganizationId, ProjectId, WorkloadId
from boxsched.store.blocks import Call, Steps, load
from boxsched.store.records import NewWorkload

_SQL = load("submission.sql")


@attrs.frozen
class LockedProjects:
    """The locked rows, unchanged until the transaction ends. ``plans``: their organizations' limits
    of Boxes.
    """

    versions: Mapping[int, int]
    organizations: Mapping[int, OrganizationId]
    shards: Mapping[int, int]
    plans: Mapping[int, float]
    _nexts: dict[int, int]
    _before: Mapping[int, int]

    def has_version(self, project: ProjectId, version: int) -> bool:
        """Whether the project's settings still have this version."""
        return self.versions.get(project) == version

    def admits(self, new: NewWorkload) -> bool:
        """Whether the submission was checked against the present settings and plan."""
        checked = self.has_version(new.project, new.project_version)
        return checked and len(new.jobs) <= self.plans[new.project]

    def take_number(self, project: ProjectId) -> int:
        number = self._nexts[project]
        self._nexts[project] += 1
        return number

    def store_numbers(self) -> Call:
        """Return the statement that stores the issued numbers."""
        nexts = self._nexts.items()
        return _SQL["set_next_numbers"].rows(
            [(project, number) for project, number in nexts if number != self._before[project]]
        )


def lock(projects: Iterable[ProjectId]) -> Steps[LockedProjects]:
    """Lock the projects in the order of their ids, like all callers. A missing project has no
    version.
    """
    locked = yield _SQL["lock_projects"].rows([(project,) for project in sorted(set(projects))])
    versions: dict[int, int] = {}
    nexts: dict[int, int] = {}
    organizations: dict[int, OrganizationId] = {}
    shards: dict[int, int] = {}
    plans: dict[int, float] = {}
    for text in locked:
        for project, version, next_number, organization, shard, plan in msgspec.json.decode(
            text[0] or "[]"
        ):
            versions[project], nexts[project] = version, next_number
            organizations[project], shards[project] = OrganizationId(organization), shard
            plans[project] = math.inf if plan is None else plan
    return LockedProjects(versions, organizations, shards, plans, nexts, dict(nexts))


def take_ids(count: int) -> Steps[list[WorkloadId]]:
    """Return ids of new workloads. They are taken after the locks, so within a project they grow
    with the numbers.
    """
    if count == 0:
        return []
    runs = yield _SQL["workload_ids"](count=count)
    return [WorkloadId(id_) for first, last in runs for id_ in range(first, last + 1)]
