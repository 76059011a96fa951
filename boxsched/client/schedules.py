"""A schedule, as the client shows it."""

from datetime import datetime

import msgspec

from boxsched.states import Result, State


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """The last time that had a build; what is said of the build is None once that is deleted."""

    at: datetime
    workload: str | None
    number: int | None
    state: State | None
    result: Result | None


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """The first of the last times that had no build of their own, and why."""

    at: datetime
    reason: str


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A build of a branch at certain times. ``text``: the expression in words; ``next``: the next
    times."""

    project: str
    cron: str
    time_zone: str
    branch: str
    text: str
    next: tuple[datetime, ...]
    last: Fired | None
    skipped: Skipped | None
