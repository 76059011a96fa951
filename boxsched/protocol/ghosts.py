"""Ghosts: attempts that a worker holds, and that the scheduler does not know as this worker's.

A worker finds them by comparing what it holds with its level, and names them in its heartbeats. It
ends those of builds by itself. Those of deploys and sessions continue, or wait with their result,
until a person restores or ends them.
"""

from typing import Annotated

import attrs
import msgspec

from boxsched.model import WorkerId
from boxsched.protocol.workers import WorkerConnection

MAX_NOTES = 5  # limit for a worker
MAX_GHOSTS = 100  # limit for a worker in a heartbeat; others follow when these are gone
_Number = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]

Lease = tuple[int, int]  # a job and a lease token


class HeldAttempt(msgspec.Struct, frozen=True, array_like=True):
    """An attempt that a worker holds. ``running``: it has not ended."""

    job: _Number
    attempt: _Number
    lease_token: _Number
    build: bool
    running: bool

    @property
    def lease(self) -> Lease:
        return self.job, self.lease_token


@attrs.frozen
class Haunted:
    """All ghosts that a worker named on a connection. ``notes``: what an operator should know of
    it.
    """

    connection: WorkerConnection
    held: tuple[HeldAttempt, ...]
    notes: tuple[str, ...] = ()


@attrs.frozen
class Ghost:
    """A stored ghost, with what the store knows of its worker and its job.

    ``since``: when it was found, in seconds since 1970. ``killed_by``: who decided to end it; None:
    nobody has decided. The fields from ``job_begun`` on are of the job and its workload, as they
    are now; None: the store has no such job.
    """

    id: int
    worker: WorkerId
    worker_name: str
    job: int
    attempt: int
    lease_token: int
    build: bool
    running: bool
    since: float
    killed_by: str | None
    connected: bool  # whether the worker is connected
    job_begun: bool  # whether the job's present attempt has begun
    project: str | None = None
    number: int | None = None
    kind: str | None = None
    name: str | None = None  # of the job
    workload_state: str | None = None
    job_state: str | None = None
    job_result: str | None = None
    job_attempt: int | None = None
    job_token: int | None = None
    job_worker: WorkerId | None = None  # the worker of its Box
    job_reason: str | None = None
