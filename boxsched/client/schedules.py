"""Schedules, as the client returns them."""

from datetime import datetime

import msgspec

from boxsched.states import Result, State


class Fired(msgspec.Struct, frozen=True, kw_only=True):
    """The last time with a build. The build's fields are None after it was deleted."""

    at: datetime
    workload: str | None
    number: int | None
    state: State | None
    result: Result | None


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """The first of the most recently skipped times, and why they were skipped."""

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
