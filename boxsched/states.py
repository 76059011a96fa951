"""The life of a workload and of a job, as tables; one function moves a state.

A move that is not in its table is a bug in boxsched, not a user's mistake: ``IllegalMove``.

    registered --LaneFree--> queued --Admitted--> running --StopAsked--> stopping
        |                      |                     |                      |
        +------Canceled--------+----> finished <-----+------JobsEnded-------+
        +-----PlanFailed-------------^
"""

import enum
from collections.abc import Mapping
from typing import TypeVar


class _Word(enum.StrEnum):
    # Python's Enum hashes slowly; these are keys in frequently used tables.
    __hash__ = str.__hash__


class State(_Word):
    """A workload's state."""

    REGISTERED = "registered"
    QUEUED = "queued"
    RUNNING = "running"
    STOPPING = "stopping"
    FINISHED = "finished"


class Move(_Word):
    """What can happen to a workload."""

    LANE_FREE = "lane_free"
    CANCELED = "canceled"
    ADMITTED = "admitted"
    STOP_ASKED = "stop_asked"
    JOBS_ENDED = "jobs_ended"
    PLAN_FAILED = "plan_failed"  # its jobs could not be read, or there are too many


class JobState(_Word):
    WAITING = "waiting"
    ASSIGNED = "assigned"
    RUNNING = "running"
    STOPPING = "stopping"
    UNKNOWN = "unknown"
    FINISHED = "finished"


class JobMove(_Word):
    ASSIGNED = "assigned"
    STARTED = "started"
    STOP_ASKED = "stop_asked"
    LOST_SIGHT = "lost_sight"
    SEEN_AGAIN = "seen_again"
    SEEN_WAITING = "seen_waiting"  # its worker is connected again, and the job has not begun
    GIVEN_AGAIN = "given_again"  # a new attempt, on another Box
    RETRIED = "retried"  # a new attempt, on the same Box
    CANCELED = "canceled"
    ENDED = "ended"


class Result(_Word):
    PASSED = "passed"
    FAILED = "failed"
    STOPPED = "stopped"
    CANCELED = "canceled"
    REFUSED = "refused"  # in the simulator only: the service answers 422 instead


SERVICE_RESULTS = (Result.PASSED, Result.FAILED, Result.STOPPED, Result.CANCELED)


class StopCause(_Word):
    """Why a running workload is being stopped; it decides the result."""

    ASKED = "asked"  # by a person: stopped
    SUPERSEDED = "superseded"  # by a newer build of its lane: stopped
    FAIL_FAST = "fail_fast"  # by its own failed job: failed


TRANSITIONS: Mapping[tuple[State, Move], State] = {
    (State.REGISTERED, Move.LANE_FREE): State.QUEUED,
    (State.REGISTERED, Move.CANCELED): State.FINISHED,
    (State.REGISTERED, Move.PLAN_FAILED): State.FINISHED,
    (State.QUEUED, Move.CANCELED): State.FINISHED,
    (State.QUEUED, Move.ADMITTED): State.RUNNING,
    (State.RUNNING, Move.STOP_ASKED): State.STOPPING,  # the Boxes stay in use until the jobs end
    (State.RUNNING, Move.JOBS_ENDED): State.FINISHED,
    (State.STOPPING, Move.STOP_ASKED): State.STOPPING,  # fail-fast stopped it first, then a person
    (State.STOPPING, Move.JOBS_ENDED): State.FINISHED,
}

JOB_TRANSITIONS: Mapping[tuple[JobState, JobMove], JobState] = {
    (JobState.WAITING, JobMove.ASSIGNED): JobState.ASSIGNED,
    (JobState.WAITING, JobMove.CANCELED): JobState.FINISHED,
    (JobState.ASSIGNED, JobMove.STARTED): JobState.RUNNING,
    (JobState.ASSIGNED, JobMove.STOP_ASKED): JobState.STOPPING,
    (JobState.ASSIGNED, JobMove.LOST_SIGHT): JobState.UNKNOWN,
    (JobState.ASSIGNED, JobMove.RETRIED): JobState.ASSIGNED,
    (JobState.ASSIGNED, JobMove.ENDED): JobState.FINISHED,
    (JobState.RUNNING, JobMove.STOP_ASKED): JobState.STOPPING,
    (JobState.RUNNING, JobMove.LOST_SIGHT): JobState.UNKNOWN,
    (JobState.RUNNING, JobMove.RETRIED): JobState.ASSIGNED,
    (JobState.RUNNING, JobMove.ENDED): JobState.FINISHED,
    # the job began before the stop reached it
    (JobState.STOPPING, JobMove.STARTED): JobState.STOPPING,
    (JobState.STOPPING, JobMove.STOP_ASKED): JobState.STOPPING,
    (JobState.STOPPING, JobMove.LOST_SIGHT): JobState.UNKNOWN,
    (JobState.STOPPING, JobMove.ENDED): JobState.FINISHED,
    (JobState.UNKNOWN, JobMove.STARTED): JobState.RUNNING,
    (JobState.UNKNOWN, JobMove.SEEN_AGAIN): JobState.RUNNING,
    (JobState.UNKNOWN, JobMove.SEEN_WAITING): JobState.ASSIGNED,
    (JobState.UNKNOWN, JobMove.GIVEN_AGAIN): JobState.ASSIGNED,
    (JobState.UNKNOWN, JobMove.STOP_ASKED): JobState.STOPPING,
    (JobState.UNKNOWN, JobMove.ENDED): JobState.FINISHED,
}


class IllegalMove(AssertionError):
    """A move that the table does not have for this state."""


_S = TypeVar("_S", State, JobState)
_M = TypeVar("_M", Move, JobMove)


def moved(table: Mapping[tuple[_S, _M], _S], state: _S, move: _M) -> _S:
    """Return the state after a move. Raises IllegalMove if the table does not have the move."""
    try:
        return table[state, move]
    except KeyError:
        raise IllegalMove(f"the state {state} does not allow the move {move}") from None
