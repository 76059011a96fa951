"""The events of the durable history: their types and their JSON."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from boxsched.engine.books import Books, LiveJob, LiveWorkload, is_flaky
from boxsched.engine.capacity import capacity
from boxsched.model import JobId, job_index, job_text, workload_text
from boxsched.protocol.batches import SUBMISSION_SET_ASIDE, Event, InboxEntry, Notice
from boxsched.protocol.inbox import (
    GhostKilled,
    GhostMove,
    GhostMoved,
    JobFinished,
    RefusedWorker,
    Resolve,
    Submit,
)
from boxsched.protocol.shards import Pause

_encode = msgspec.json.Encoder().encode
# limit of a commit's message in an event; the workload has the whole message
MESSAGE_CHARACTERS = 500

PAYLOAD_CHARACTERS = 10_000
SUBMIT = "submit"  # the kind of a command that registers a workload


def rfc3339(time: float) -> str:
    """Format a time like the API: RFC 3339 in UTC, with microseconds."""
    return datetime.fromtimestamp(time, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


class News:
    """The events of one batch, in the order in which they happened.

    ``notices``: the events for notifications to projects' targets.
    """

    def __init__(self, books: Books, now: float) -> None:
        self._books = books
        self._now = now
        self._at = rfc3339(now)
        self.events: list[Event] = []
        self.notices: list[Notice] = []

    def registered(self, live: LiveWorkload, command: Submit) -> None:
        self._workload(
            live,
            "workload.registered",
            branch=command.branch,
            tag=command.tag,
            server=command.server,
            commit=command.commit,
            message=command.message and command.message[:MESSAGE_CHARACTERS],
            author=command.author,
            priority=command.priority,
            boxes=len(command.jobs),
            created_at=rfc3339(command.created_at),
            state="registered",
        )

    def queued(self, live: LiveWorkload) -> None:
        self._workload(live, "workload.queued", state="queued", queued_at=self._at)

    def commit(self, live: LiveWorkload) -> None:
        """Record that the workload's commit was found."""
        self._workload(live, "workload.commit", commit=live.commit)

    def started(self, live: LiveWorkload, boxes: list[str], warm: int) -> None:
        self._workload(
            live,
            "workload.started",
            state="running",
            started_at=self._at,
            boxes_taken=boxes,
            warm=warm,
            capacity=self._capacity(),
        )

    def stopping(self, live: LiveWorkload, by: str | None) -> None:
        self._workload(
            live,
            "workload.stopping",
            state="stopping",
            cause=live.stop_cause,
            by=by,
            reason=live.reason,
        )

    def finished(self, live: LiveWorkload, by: str | None = None) -> None:
        further: dict[str, Any] = {} if live.commit is None else {"commit": live.commit}
        if is_flaky(live):
            further["flaky"] = True
        self._workload(
            live,
            "workload.finished",
            state="finished",
            result=live.result,
            queued_at=live.queued_at and rfc3339(live.queued_at),
            started_at=live.started_at and rfc3339(live.started_at),
            finished_at=self._at,
            by=by,
            reason=live.reason,
            capacity=self._capacity(),
            **further,
        )

    def job(self, live: LiveWorkload, job: LiveJob, what: str) -> None:
        """``what``: started, finished, unknown, not_begun, seen_again, given_again."""
        self._workload(
            live,
            f"job.{what}",
            job_id=job,
            job=job_text(job.id),
            name=live.jobs[job_index(job.id)].name,
            state=job.state,
            result=job.result,
            box=None if job.box is None else str(job.box),
            attempt=job.attempt,
            exit_status=job.exit_status,
            reason=job.reason,
            **({"capacity": self._capacity()} if what == "finished" else {}),
        )

    def resolved(self, live: LiveWorkload, job: LiveJob, command: Resolve) -> None:
        """Record an operator's decision about a job on an absent worker; its events follow."""
        self._workload(
            live,
            "job.resolved",
            job_id=job,
            job=job_text(job.id),
            name=live.jobs[job_index(job.id)].name,
            state=job.state,
            attempt=job.attempt,
            result=command.result,
            by=command.by,
            note=command.note,
        )

    def retried(self, live: LiveWorkload, job: LiveJob, said: JobFinished) -> None:
        """Record that an attempt failed and that the job gets another one in its Box."""
        self._workload(
            live,
            "job.retried",
            job_id=job,
            job=job_text(job.id),
            name=live.jobs[job_index(job.id)].name,
            state="assigned",
            box=None if job.box is None else str(job.box),
            attempt=job.attempt + 1,
            exit_status=said.exit_status,
            reason=said.reason,
        )

    def restored(self, live: LiveWorkload, job: LiveJob, by: str) -> None:
        """Record that a person gave the job back to the worker that holds an attempt at it."""
        self._workload(
            live,
            "job.restored",
            job_id=job,
            job=job_text(job.id),
            name=live.jobs[job_index(job.id)].name,
            state=job.state,
            box=None if job.box is None else str(job.box),
            attempt=job.attempt,
            by=by,
        )

    def refused_worker(self, command: RefusedWorker) -> None:
        """Record that a node refused a worker because of its token or its identity."""
        self._add(
            "worker.refused",
            name=command.name,
            token=command.token,
            address=command.address,
            code=command.code,
            message=command.message,
        )

    def ghost(self, worker: int, ghost: GhostMoved) -> None:
        """Record that a ghost was found, ended by itself, or is gone."""
        gone: dict[str, Any] = {}
        if ghost.move is GhostMove.GONE:
            gone = {"cause": ghost.cause, "by": ghost.by}
        self._add(
            f"ghost.{ghost.move}",
            worker=str(worker),
            name=ghost.name,
            job=job_text(JobId(ghost.job)),
            attempt=ghost.attempt,
            lease_token=ghost.lease_token,
            build=ghost.build,
            state="running" if ghost.running else "ended",
            **gone,
        )

    def ghost_killed(self, command: GhostKilled) -> None:
        """Record that a person decided to end a ghost."""
        self._add(
            "ghost.killed",
            worker=str(command.worker),
            name=command.name,
            job=job_text(JobId(command.job)),
            attempt=command.attempt,
            lease_token=command.lease_token,
            by=command.by,
        )

    def planned(self, live: LiveWorkload) -> None:
        """Record that the jobs of the build were read."""
        self._workload(live, "workload.planned", boxes=len(live.jobs), commit=live.commit)

    def prioritized(self, live: LiveWorkload, by: str, note: str) -> None:
        self._workload(live, "workload.prioritized", priority=live.priority, by=by, note=note)

    def spared(self, live: LiveWorkload) -> None:
        """Record that no strategy cancels or stops the build any more."""
        self._workload(live, "workload.spared", spared=True)

    def paused(self, pause: Pause) -> None:
        """Record that a pause begins, or replaces the one of its name."""
        self._pause("pause.set", pause, pause.by, note=pause.note, automatic=pause.automatic)

    def resumed(self, pause: Pause, by: str | None) -> None:
        """Record that a pause ended. ``by``: who ended it; None: it ended at its set time."""
        self._pause("pause.ended", pause, by)

    def _pause(self, type_: str, pause: Pause, by: str | None, **values: Any) -> None:
        project = pause.project and self._books.projects.get(pause.project)
        self._add(
            type_,
            name=pause.name,
            project=project,
            branch=pause.branch,
            server=pause.server,
            until=pause.until and rfc3339(pause.until),
            by=by,
            **values,
        )

    def worker(self, what: str, worker: int, **values: Any) -> None:
        """``what``: connected, disconnected, silent, heard_again, lost, forgotten, cannot_begin,
        can_begin."""
        self._add(f"worker.{what}", worker=str(worker), **values, capacity=self._capacity())

    def boxes_changed(self) -> None:
        capacity = self._capacity()
        self._add("boxes.changed", **capacity, capacity=capacity)

    def project(self, what: str, name: str) -> None:
        """``what``: changed (or created), deleted."""
        self._add(f"project.{what}", project=name)

    def set_aside(self, entry: InboxEntry, error: str) -> None:
        """Record that a command was set aside without effect; the store keeps it.

        If the command was a submission, its workload has ended.
        """
        payload = entry.payload.decode(errors="replace")[:PAYLOAD_CHARACTERS]
        self._add("command.set_aside", kind=entry.kind, error=error, payload=payload)
        if entry.kind == SUBMIT and entry.workload is not None:
            data = {
                "type": "workload.finished",
                "at": self._at,
                "workload": workload_text(entry.workload),
                "state": "finished",
                "result": "canceled",
                "finished_at": self._at,
                "reason": f"{SUBMISSION_SET_ASIDE}: {error}",
            }
            self.events.append(
                Event("workload.finished", self._now, entry.workload, None, _encode(data))
            )
            self.notices.append(Notice(entry.workload, "workload.finished", self._now))

    def _capacity(self) -> dict[str, int]:
        """Return the Box counts; without ``away`` and ``away_busy`` if no Box is away."""
        now = capacity(self._books.core)
        counts = {"total": now.total, "busy": now.busy}
        return {**counts, "away": now.away, "away_busy": now.away_busy} if now.away else counts

    def _workload(
        self, live: LiveWorkload, type_: str, job_id: LiveJob | None = None, **values: Any
    ) -> None:
        data = {
            "type": type_,
            "at": self._at,
            "workload": workload_text(live.id),
            "project": self._books.projects.get(live.project),
            "number": live.number,
            "kind": live.kind,
            **values,
        }
        job = None if job_id is None else job_id.id
        if job is None and live.project in self._books.notifying:
            self.notices.append(Notice(live.id, type_, self._now))
        self.events.append(Event(type_, self._now, live.id, job, _encode(data)))

    def _add(self, type_: str, **values: Any) -> None:
        data = {"type": type_, "at": self._at, **values}
        self.events.append(Event(type_, self._now, None, None, _encode(data)))
