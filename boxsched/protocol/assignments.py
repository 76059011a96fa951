"""What a worker should be running."""

from collections.abc import Mapping

import attrs

from boxsched.model import BoxId, JobId, Kind, WorkloadId


@attrs.frozen
class Assignment:
    """A job that a worker should be running now. All of them together are the worker's level."""

    job: JobId
    attempt: int
    lease_token: int
    box: BoxId
    ordinal: int
    stop: bool  # the worker should end it
    timeout_seconds: float
    name: str
    commands: tuple[str, ...]
    environment: Mapping[str, str]
    workload: WorkloadId
    number: int
    kind: Kind
    project: str
    branch: str | None
    tag: str | None
    server: str | None
    commit: str | None
    repository: str | None
    started: bool = False  # the store knows that it began: it must not be started again
    stop_reason: str | None = None  # who stops it and why, for its log
    show_commands: bool = True
