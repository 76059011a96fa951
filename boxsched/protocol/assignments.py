"""What a worker should be running: the level that worker and node agree on."""

from collections.abc import Mapping

import attrs

from boxsched.model import BoxId, JobId, Kind, WorkloadId


@attrs.frozen
class Assignment:
    """What a worker should be running now: the level that worker and node agree on."""

    job: JobId
    attempt: int
    lease_token: int
    box: BoxId
    ordinal: int
    stop: bool  # it should be ended
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
    started: bool = False  # the store knows that it began: never to be started anew
    stop_reason: str | None = None  # who stops it and why, for its log
    show_commands: bool = True
