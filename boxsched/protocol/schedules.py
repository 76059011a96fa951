"""Schedules: builds of a branch at certain times, from a project's settings."""

import attrs

from boxsched.model import OrganizationId, ProjectId


@attrs.frozen
class Schedule:
    """The identity of a schedule within its project. ``time_zone`` is "" for UTC."""

    cron: str
    time_zone: str
    branch: str


@attrs.frozen
class NewSchedule:
    """A schedule in the settings, with its first time, which counts if the schedule is new."""

    schedule: Schedule
    next_at: float


@attrs.frozen
class DueSchedule:
    """A schedule that is due, or whose next time must be computed again."""

    project: ProjectId
    organization: OrganizationId
    project_name: str
    schedule: Schedule
    next_at: float

    @property
    def owner(self) -> tuple[OrganizationId, str]:
        """The organization and the name of the project."""
        return self.organization, self.project_name


@attrs.frozen
class Firing:
    """The decision about a due schedule: the new values of its row.

    ``due``: the next time that the decision is based on; if it has changed, another node was
    faster. ``planned``: the time of the build; None: there is no build. ``skipped``: why times
    since ``skipped_at`` had no build.
    """

    project: ProjectId
    schedule: Schedule
    due: float
    next_at: float
    decided_at: float
    planned: float | None = None
    skipped_at: float | None = None
    skipped: str | None = None
