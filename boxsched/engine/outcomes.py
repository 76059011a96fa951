"""Apply the decisions of a turn to the books, and to the rows and events of one batch.

Its input is decisions of the core (``decide``) and attempts that have ended (``finish``). Each
causes the other: after an attempt ends the core decides, and a decision to stop a workload ends
attempts that no worker runs any more. So both are in this module.
"""

from collections.abc import Iterable

from boxsched.engine import causes
from boxsched.engine.books import Books, LiveJob, LiveWorkload
from boxsched.engine.draft import Draft
from boxsched.engine.news import News
from boxsched.model import (
    BoxId,
    Kind,
    WorkerId,
    WorkloadId,
    job_id,
    job_index,
    lane_project,
    workload_text,
)
from boxsched.protocol.batches import DeployDue, DurationChange, LaneChange, Live
from boxsched.protocol.inbox import JobFinished
from boxsched.protocol.reasons import LOST, waits_again
from boxsched.protocol.workers import WorkerConnection
from boxsched.scheduling import interface as core
from boxsched.scheduling.prediction import RUNS_REMEMBERED, expected_duration
from boxsched.states import (
    JOB_TRANSITIONS,
    TRANSITIONS,
    JobMove,
    JobState,
    Move,
    Result,
    State,
    StopCause,
    moved,
)


class Outcomes:
    """The books of a shard, and the rows (``draft``) and events (``news``) of one turn.

    ``token`` is the lease token of every job assigned in this turn: the batch's number, so it grows
    along a job and along a lane. Once something has been decided, it is committed or the books are
    dropped.
    """

    def __init__(self, books: Books, now: float, token: int) -> None:
        self.books = books
        self.now = now
        self.token = token
        self.draft = Draft(now)
        self.news = News(books, now)
        self.to_notify: set[WorkerId] = set()  # workers that have something to look up
        # To be logged: why workers cannot begin jobs; None: they can again.
        self.problems: dict[WorkerId, str | None] = {}
        # jobs that were assigned, begun or stopped: their deadlines start now
        self.timed: list[LiveJob] = []
        self.hung_up: dict[WorkerId, WorkerConnection] = {}  # workers that must connect again
        self.queued_seconds: list[float] = []  # how long each admitted workload was queued
        self.ran_seconds = 0.0  # measured total of all ended jobs
        self.asked_by = ""  # who asked for the stop that is being applied
        self.note = ""  # the note of the current request
        self.plan_reason: str | None = None  # why the jobs of a build could not be read
        self.unplanned = False  # whether a build was registered whose jobs must be read
        self.settings_changed = False  # whether a project was set or deleted
        self.strategy = ""  # the cancellation strategy of the workload that is being registered

    def decide(self, event: core.Event) -> None:
        self.carry_out(self.books.core.apply(event, self.now))

    def settle(self) -> None:
        """Let the core decide, after all events of this instant have been applied."""
        self.carry_out(self.books.core.settle(self.now))

    def carry_out(self, decisions: list[core.Decision]) -> None:
        for decision in decisions:
            match decision:
                case core.Queued():
                    self._queued(self._touch(decision.workload))
                case core.Promised():
                    self._touch(decision.workload).promise = decision.at
                case core.Admitted():
                    self._admitted(self._touch(decision.workload), decision)
                case core.GivenAgain():
                    self._given_again(self._touch(decision.workload), decision)
                case core.BoxFreed():
                    self._box_freed(decision)
                case core.Finished():
                    self._finished(self._touch(decision.workload), decision.result)
                case core.StopJobs():
                    self._stop_jobs(self._touch(decision.workload), decision)
                case core.Canceled():
                    self._canceled(self._touch(decision.workload), decision)
                case core.PlanFailed():
                    self._plan_failed(self._touch(decision.workload))
                case core.Spared():
                    live = self._touch(decision.workload)
                    live.spared = True
                    self.news.spared(live)
                case core.LaneCounted():
                    self._lane_counted(decision)
                case core.Prioritized():
                    live = self._touch(decision.workload)
                    live.priority = decision.priority
                    live.priority_by, live.priority_note = self.asked_by, self.note or None
                    self.news.prioritized(live, self.asked_by, self.note)
                case core.Refused():
                    live = self._touch(decision.workload)
                    self._never_runs(live, "limit", causes.refused(len(live.jobs)))

    def _lane_counted(self, decision: core.LaneCounted) -> None:
        lane = str(decision.lane)
        self.draft.lane(LaneChange(lane, lane_project(lane), decision.superseded))

    def _touch(self, id_: WorkloadId) -> LiveWorkload:
        live = self.books.workloads[id_]
        self.draft.workload(live)
        return live

    def _queued(self, live: LiveWorkload) -> None:
        live.state = moved(TRANSITIONS, live.state, Move.LANE_FREE)
        live.queued_at = self.now
        self.news.queued(live)

    def _admitted(self, live: LiveWorkload, decision: core.Admitted) -> None:
        live.state = moved(TRANSITIONS, live.state, Move.ADMITTED)
        live.started_at = self.now
        self.queued_seconds.append(0.0 if live.queued_at is None else self.now - live.queued_at)
        live.running = []
        for index, box in enumerate(decision.boxes):
            id_ = job_id(live.id, index)
            state = moved(JOB_TRANSITIONS, JobState.WAITING, JobMove.ASSIGNED)
            job = LiveJob(id_, state, box, 1, self.token)
            live.running.append(job)
            self.timed.append(job)
            self.draft.job(job)
            book = self.books.boxes[box]
            book.job = id_
            self.draft.take(book)
            self.to_notify.add(book.worker)
        self.news.started(live, [str(box) for box in decision.boxes], decision.warm)

    def _given_again(self, live: LiveWorkload, decision: core.GivenAgain) -> None:
        assert live.running is not None
        job = live.running[decision.job]
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.GIVEN_AGAIN)
        job.box, job.attempt, job.lease_token = decision.box, job.attempt + 1, self.token
        job.started_at = job.reason = job.restored_from = None
        job.given_at = self.now
        self.books.lost.pop(job.id, None)
        self.timed.append(job)
        self.draft.job(job)
        book = self.books.boxes[decision.box]
        book.job = job.id
        self.draft.take(book)
        self.to_notify.add(book.worker)
        self.news.job(live, job, "given_again")

    def _box_freed(self, decision: core.BoxFreed) -> None:
        book = self.books.boxes[decision.box]
        if book.job is not None:
            found = self.books.job(book.job)
            assert found is not None
            live = found[0]
            book.last_project, book.last_branch = live.project, live.branch
        book.job = None
        if decision.gone:
            self.books.remove_box(book)
            self.draft.go(book.id)
        else:
            self.draft.free(book)
        self.to_notify.add(book.worker)

    def _stop_jobs(self, live: LiveWorkload, decision: core.StopJobs) -> None:
        assert live.running is not None
        live.state = moved(TRANSITIONS, live.state, Move.STOP_ASKED)
        live.stop_cause = decision.cause
        by: str | None = None
        if decision.by is not None:
            by = workload_text(decision.by)
            live.reason = causes.superseded(self.books, decision.by, self.strategy)
        elif decision.cause is StopCause.ASKED:
            by = self.asked_by
            live.reason = f"stopped by {by}"
        for index in decision.jobs:
            job = live.running[index]
            job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
            self.timed.append(job)
            self.draft.job(job)
            self.notify(job)
        self.news.stopping(live, by)
        for job in [live.running[index] for index in decision.jobs]:
            if job.id in self.books.lost:  # no worker has it, so it ends here
                self.end(live, job, Result.STOPPED, LOST)

    def _finished(self, live: LiveWorkload, result: Result) -> None:
        live.state = moved(TRANSITIONS, live.state, Move.JOBS_ENDED)
        live.reason = causes.finished(live, result)
        if result is Result.PASSED:
            self._passed(live)
        self._end(live, result, None)

    def _passed(self, live: LiveWorkload) -> None:
        """Record a passed deploy as live, or a passed build as due on the servers that follow its
        branch.
        """
        if live.kind is Kind.DEPLOY and live.server is not None:
            self.draft.live(Live(live.project, live.server, live.id))
        elif live.kind is Kind.BUILD and live.branch is not None:
            for server in self.books.followed.get(live.project, {}).get(live.branch, ()):
                self.draft.deploy_due(DeployDue(live.id, server))

    def _canceled(self, live: LiveWorkload, decision: core.Canceled) -> None:
        if decision.by is None:
            self._never_runs(live, self.asked_by, f"canceled by {self.asked_by}")
        else:
            why = causes.superseded(self.books, decision.by, self.strategy)
            self._never_runs(live, workload_text(decision.by), why)

    def _plan_failed(self, live: LiveWorkload) -> None:
        """End a build whose jobs could not be read or exceed its limits: it never runs."""
        live.reason = self.plan_reason or causes.refused(len(live.jobs))
        live.state = moved(TRANSITIONS, live.state, Move.PLAN_FAILED)
        self._cancel_jobs(live, live.reason)
        self._end(live, Result.FAILED, None)

    def _never_runs(self, live: LiveWorkload, by: str, reason: str) -> None:
        live.reason = reason
        live.state = moved(TRANSITIONS, live.state, Move.CANCELED)
        self._cancel_jobs(live, reason)
        self._end(live, Result.CANCELED, by)

    def _cancel_jobs(self, live: LiveWorkload, reason: str) -> None:
        for index in range(len(live.jobs)):
            id_ = job_id(live.id, index)
            job = LiveJob(id_, JobState.FINISHED, None, 0, None, Result.CANCELED)
            job.finished_at, job.reason = self.now, reason
            self.draft.job(job)

    def _end(self, live: LiveWorkload, result: Result, by: str | None) -> None:
        live.result = result
        live.finished_at = self.now
        del self.books.workloads[live.id]
        self.news.finished(live, by)

    def notify(self, job: LiveJob) -> None:
        """Notify the job's worker after the commit, so that it looks up its jobs."""
        assert job.box is not None
        self.to_notify.add(self.books.boxes[job.box].worker)

    # --- Attempts that have ended ---------------------------------------------------------------

    def end(self, live: LiveWorkload, job: LiveJob, result: Result, reason: str) -> None:
        """End an attempt whose worker will not report its end."""
        assert job.lease_token is not None
        said = JobFinished(job.id, job.lease_token, self.now, result, None, reason)
        self.finish(live, job, said)

    def finish(self, live: LiveWorkload, job: LiveJob, said: JobFinished) -> None:
        """Record the end of an attempt; ``said.seconds`` is how long it ran, if that is known."""
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.ENDED)
        job.result = said.result
        out_of_time = is_out_of_time(job)
        if out_of_time and said.result is Result.STOPPED:
            job.result = Result.FAILED
        if not out_of_time or job.result is Result.PASSED:
            job.reason = _reason(live, job.result, said)
        job.exit_status = said.exit_status
        self._set_times(live, job, said.seconds)
        self.books.lost.pop(job.id, None)
        self.draft.job(job)
        if job.result is Result.PASSED and said.seconds is not None:
            self._remember_duration(live, job, said.seconds)
        self.take_up(live, said)
        if job.result is Result.FAILED and live.reason is None:
            live.reason = causes.job_failed(live, job)
            self.draft.workload(live)
        ended = core.JobsEnded(live.id, (job_index(job.id),), job.result)
        decisions = self.books.core.apply(ended, self.now)
        self.news.job(live, job, "finished")
        self.carry_out(decisions)

    def take_up(self, live: LiveWorkload, said: JobFinished) -> None:
        """Note how long an attempt ran, and the commit that it found."""
        self.ran_seconds += said.seconds or 0.0
        if said.commit is not None and live.commit is None:
            live.commit = said.commit
            self.draft.workload(live)

    def _set_times(self, live: LiveWorkload, job: LiveJob, seconds: float | None) -> None:
        """Set when the attempt began and ended, by this node's clock, ``seconds`` apart.

        A report may arrive late. So the end is computed from the start; only if it would be in the
        future, the start is computed from the end.
        """
        job.finished_at = self.now
        if job.started_at is None or seconds is None:
            return
        if job.started_at + seconds <= self.now:
            job.finished_at = job.started_at + seconds
        else:
            assert live.started_at is not None
            job.started_at = max(live.started_at, self.now - seconds)

    def _remember_duration(self, live: LiveWorkload, job: LiveJob, seconds: float) -> None:
        key = (live.project, live.jobs[job_index(job.id)].name)
        recent = (*self.books.durations.get(key, ()), seconds)[-RUNS_REMEMBERED:]
        self.draft.duration(DurationChange(*key, recent, expected_duration(recent)))
        for forgotten in self.books.remember(*key, recent):
            self.draft.duration(DurationChange(*forgotten, (), 0.0))

    # --- Boxes and workers -----------------------------------------------------------------------

    def retire(self, box: BoxId) -> None:
        """Remove the Box: at once, or when its job ends."""
        if self.books.core.boxes[box].retired:
            return
        self.draft.retire(box)
        self.decide(core.BoxRetired(box))

    def hang_up(self, worker: WorkerId) -> None:
        """Make the worker connect again; its Boxes get no job until then."""
        self.hung_up[worker] = WorkerConnection(worker, self.books.connections.get(worker, 0))
        self.leave(worker)

    def leave(self, worker: WorkerId) -> None:
        """The worker is not connected: its Boxes get no job."""
        self.books.absent.add(worker)
        self.decide(core.BoxesAway(self.books.box_ids(worker)))

    def free_anew(self, boxes: Iterable[BoxId]) -> None:
        """Put the free Boxes of a returning worker at the end of the order of free Boxes."""
        for box in boxes:
            book = self.books.boxes[box]
            if book.job is None:
                self.draft.free(book)


def is_out_of_time(job: LiveJob) -> bool:
    """Whether the job was told to end at its time limit. Only then it has such a reason."""
    return job.reason is not None and not waits_again(job.reason)


def _reason(live: LiveWorkload, result: Result, said: JobFinished) -> str | None:
    """Return why a job ended: for a stopped job the engine's reason, else the worker's."""
    if result is Result.STOPPED and live.state is State.STOPPING:
        return causes.stopped_job(live) or said.reason
    return said.reason
