"""The types of answers: stored values in the JSON format of the API."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType

from boxsched.api.http.replies import encode
from boxsched.api.http.times import rfc3339, text_time
from boxsched.model import JobId, Kind, WorkloadId, job_id, job_text, workload_text
from boxsched.pace import LoopPace
from boxsched.protocol.retries import Retries
from boxsched.states import JobState, Result, State
from boxsched.store.records import Job, NewWorkload, Submitted, Workload

JOBS_A_SLICE = 300  # encoded without a pause; this takes about 2 ms

SSH_USER = "box"

T = TypeVar("T")


class RetriedAnswer(Struct, frozen=True, gc=False):
    """How often a job was tried again in its Box, by the cause that ended the attempt before:
    ``lost``, its exit status, or ``any`` other failure.
    """

    lost: int
    exit: dict[str, int]
    any: int


class JobAnswer(Struct, frozen=True, gc=False):
    """A job. ``reason``: why it failed, was stopped or was canceled. ``retries``: how often it was
    tried again in its Box; ``retried``: why. ``flaky``: it passed only then.

    ``attempt``: 0 before the first attempt.
    """

    id: str
    name: str
    state: JobState
    result: Result | None
    box: str | None
    attempt: int
    started_at: str | None
    finished_at: str | None
    exit_status: int | None
    box_type: str
    reason: str | None
    retries: int = 0
    flaky: bool = False
    retried: RetriedAnswer | None = None


class SshAddress(Struct, frozen=True):
    """How an SSH session is reached. ``host``, ``port``: of its worker; null: only through the
    service. ``host_key``: the public key of its server; accept no other.
    """

    host: str | None
    port: int | None
    user: str
    host_key: str


class WorkloadRow(Struct, frozen=True, kw_only=True, gc=False):
    """A workload without its jobs. ``boxes``: how many it needs. ``why``: why it waits. ``reason``:
    why it failed, was stopped or was canceled. For builds from webhooks: ``compare_url`` shows the
    changes, ``event_at`` is the event's time at the code host, ``from_fork`` true means that jobs
    get no secrets, ``target_branch`` is the branch that a change request would be merged into.
    ``submitted_by``: who submitted it; null if not known. ``spared``: no newer build of its branch
    cancels or stops it. ``priority_by``, ``priority_note``: who gave it another priority, and why.
    ``flaky``: it passed, and a job of it only when it was tried again.
    """

    id: str
    project: str
    number: int
    kind: Kind
    branch: str | None
    tag: str | None
    server: str | None
    commit: str | None
    message: str | None
    author: str | None
    state: State
    result: Result | None
    priority: int
    created_at: str
    queued_at: str | None
    started_at: str | None
    finished_at: str | None
    boxes: int
    build: str | None
    rebuild_of: str | None
    reason: str | None
    automatic: bool = False
    rollback: bool = False
    compare_url: str | None = None
    event_at: str | None = None
    from_fork: bool = False
    target_branch: str | None = None
    submitted_by: str | None = None
    spared: bool = False
    priority_by: str | None = None
    priority_note: str | None = None
    flaky: bool = False
    why: str | UnsetType = UNSET


class WorkloadAnswer(WorkloadRow, frozen=True, kw_only=True):
    """A workload with its jobs. ``ssh``: only for a session; null until it can be entered."""

    jobs: tuple[JobAnswer, ...]
    ssh: SshAddress | UnsetType | None = UNSET


class WorkloadList(Struct, frozen=True):
    workloads: tuple[WorkloadAnswer, ...]
    next_cursor: str | None


def text_id(workload: WorkloadId | None) -> str | None:
    return None if workload is None else workload_text(workload)


def job(stored: Job) -> JobAnswer:
    return JobAnswer(
        job_text(stored.id),
        stored.name,
        stored.state,
        stored.result,
        None if stored.box is None else str(stored.box),
        stored.attempt,
        text_time(stored.started_at),
        text_time(stored.finished_at),
        stored.exit_status,
        stored.box_type,
        stored.reason,
        stored.retries,
        stored.is_flaky,
        _retried(stored.retried),
    )


def _retried(used: Retries | None) -> RetriedAnswer | None:
    if used is None:
        return None
    exits = {str(status): times for status, times in used.exit}
    return RetriedAnswer(used.lost, exits, used.any)


def row(stored: Workload, why: str | UnsetType = UNSET, *, flaky: bool = False) -> WorkloadRow:
    return WorkloadRow(
        id=workload_text(stored.id),
        project=stored.project_name,
        number=stored.number,
        kind=stored.kind,
        branch=stored.branch,
        tag=stored.tag,
        server=stored.server,
        commit=stored.commit,
        message=stored.message,
        author=stored.author,
        state=stored.state,
        result=stored.result,
        priority=stored.priority,
        created_at=rfc3339(stored.created_at),
        queued_at=text_time(stored.queued_at),
        started_at=text_time(stored.started_at),
        finished_at=text_time(stored.finished_at),
        boxes=stored.boxes,
        build=text_id(stored.build),
        rebuild_of=text_id(stored.rebuild_of),
        reason=stored.reason,
        automatic=stored.automatic,
        rollback=stored.rollback,
        compare_url=stored.compare_url,
        event_at=text_time(stored.event_at),
        from_fork=stored.from_fork,
        target_branch=stored.target_branch,
        submitted_by=stored.submitted_by,
        spared=stored.spared,
        priority_by=stored.priority_by,
        priority_note=stored.priority_note,
        flaky=flaky,
        why=why,
    )


def workload(stored: Workload, why: str | UnsetType = UNSET) -> WorkloadAnswer:
    flaky = stored.result is Result.PASSED and any(one.is_flaky for one in stored.jobs)
    return WorkloadAnswer(
        **msgspec.structs.asdict(row(stored, why, flaky=flaky)),
        jobs=tuple([job(one) for one in stored.jobs]),
        ssh=_ssh(stored),
    )


def _ssh(stored: Workload) -> SshAddress | UnsetType | None:
    if stored.kind is not Kind.SSH:
        return UNSET
    place = stored.ssh
    if place is None:
        return None
    return SshAddress(place.host, place.port, SSH_USER, place.host_key)


def registered(new: NewWorkload, project: str, done: Submitted) -> WorkloadAnswer:
    """Return the answer to a submission: the workload as it was registered."""
    return WorkloadAnswer(
        id=workload_text(done.id),
        project=project,
        number=done.number,
        kind=new.kind,
        branch=new.branch,
        tag=new.tag,
        server=new.server,
        commit=new.commit,
        message=new.message,
        author=new.author,
        state=State.REGISTERED,
        result=None,
        priority=new.priority,
        created_at=rfc3339(new.created_at),
        queued_at=None,
        started_at=None,
        finished_at=None,
        boxes=len(new.jobs),
        build=text_id(new.build),
        rebuild_of=text_id(new.rebuild_of),
        reason=None,
        submitted_by=new.submitted_by or None,
        automatic=new.automatic,
        rollback=done.rollback,
        from_fork=new.from_fork,
        jobs=tuple(
            [
                waiting(job_id(done.id, index), spec.name, spec.box_type)
                for index, spec in enumerate(new.jobs)
            ]
        ),
        ssh=None if new.kind is Kind.SSH else UNSET,
    )


def registered_again(stored: Workload) -> WorkloadAnswer:
    """Return the answer to the submission again, made from the stored workload."""
    return msgspec.structs.replace(
        workload(stored),
        state=State.REGISTERED,
        result=None,
        queued_at=None,
        started_at=None,
        finished_at=None,
        reason=None,
        jobs=tuple([waiting(one.id, one.name, one.box_type) for one in stored.jobs]),
    )


def waiting(id_: JobId, name: str, box_type: str) -> JobAnswer:
    return JobAnswer(
        job_text(id_), name, JobState.WAITING, None, None, 0, None, None, None, box_type, None
    )


async def encoded(
    values: Iterable[T], shape: Callable[[T], object], weight: Callable[[T], int], pace: LoopPace
) -> bytes:
    """Encode many values as a JSON list, in slices, so that other requests are not delayed."""
    return b"".join(await encoded_parts(values, shape, weight, pace))


async def encoded_parts(
    values: Iterable[T], shape: Callable[[T], object], weight: Callable[[T], int], pace: LoopPace
) -> list[bytes]:
    """Like ``encoded``, but return parts: joining many megabytes also takes long."""
    parts = [b"["]
    slice_: list[object] = []
    load = 0
    for value in values:
        slice_.append(shape(value))
        load += weight(value)
        if load >= JOBS_A_SLICE:
            parts += (_inside(slice_), b",")
            slice_, load = [], 0
            await pace.step()
    if slice_:
        parts.append(_inside(slice_))
    elif len(parts) > 1:
        parts.pop()
    parts.append(b"]")
    return parts


def _inside(values: Iterable[object]) -> bytes:
    return encode(values)[1:-1]
