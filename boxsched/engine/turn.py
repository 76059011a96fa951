"""One turn: commands in, the core's instant, and the rows and events of one batch out."""

from collections.abc import Iterable

from boxsched.engine import absence
from boxsched.engine.books import Books, BoxBook, LiveJob, LiveWorkload, lane_of
from boxsched.engine.happenings import Happenings
from boxsched.engine.watch import NOTHING_SEEN, Sights
from boxsched.inbox import (
    BoxesSet,
    Command,
    JobFinished,
    JobStarted,
    ProjectSet,
    Reports,
    Stop,
    Submit,
)
from boxsched.model import (
    BoxId,
    Cancellation,
    JobId,
    Kind,
    ProjectId,
    WorkerId,
    WorkloadId,
    job_id,
    job_index,
    workload_text,
)
from boxsched.scheduling import values as core
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
from boxsched.store.values import (
    Batch,
    BoxChange,
    DurationChange,
    InboxEntry,
    JobChange,
    WorkloadChange,
)

FREED_STEP_SECONDS = 1e-6


class Turn:
    """Applies commands to the books and the core at ``now``; ``batch()`` is what to commit.

    ``token`` is the lease token of every job assigned in this turn: the batch's number, so it grows
    along a job and along a lane. Once begun, a turn is committed or the books are dropped.
    """

    def __init__(self, books: Books, now: float, token: int) -> None:
        self.books = books
        self.now = now
        self.token = token
        self.news = Happenings(books, now)
        self.to_tell: set[WorkerId] = set()  # workers that have something to look up
        self.started: list[LiveJob] = []  # their time limits run from now on
        self._asked_by: str | None = None  # who asked for the stop that is being applied
        self._workloads: dict[WorkloadId, LiveWorkload] = {}
        self._jobs: dict[JobId, LiveJob] = {}
        self._freed: dict[BoxId, BoxChange] = {}
        self._taken: dict[BoxId, BoxChange] = {}
        self._gone: dict[BoxId, None] = {}
        self._retired: dict[BoxId, None] = {}
        self._freed_at = now  # each Box a little later than the one before: so they stay in order
        self._durations: dict[tuple[ProjectId, str], DurationChange] = {}

    def run(
        self,
        commands: Iterable[Command],
        overdue: Iterable[LiveJob] = (),
        sights: Sights = NOTHING_SEEN,
    ) -> None:
        """One instant (contract, section 1): 1. all jobs that ended; 2. workers that went or came;
        3. what was asked, in its order; 4. what the core makes of it."""
        commands = list(commands)
        for command in commands:
            if isinstance(command, Reports):
                for report in command.reports:
                    self._report(WorkerId(command.worker), report)
        absence.apply(self, sights)
        for job in overdue:
            self._out_of_time(job)
        for command in commands:
            match command:
                case Submit():
                    self._submit(command)
                case Stop():
                    self._asked_by = command.by
                    self.decide(core.Stop(WorkloadId(command.workload)))
                    self._asked_by = None
                case ProjectSet():
                    self._project(command)
                case BoxesSet():
                    self._boxes(command)
        self._carry_out(self.books.core.settle(self.now))

    # --- What ended -------------------------------------------------------------------------

    def _report(self, worker: WorkerId, report: JobStarted | JobFinished) -> None:
        """A worker's word on an attempt of its own; under an old lease token, or said twice, it
        changes nothing."""
        found = self.books.job(JobId(report.job))
        if found is None:
            return
        live, job = found
        if job.lease_token != report.lease_token or job.state is JobState.FINISHED:
            return
        assert job.box is not None
        if self.books.boxes[job.box].worker != worker:
            return
        assert live.started_at is not None
        at = min(max(report.at, live.started_at), self.now)
        if isinstance(report, JobStarted):
            if job.started_at is None and job.id not in self.books.lost:
                self._job_started(live, job, at)
            elif job.started_at is None:
                job.started_at = at  # it is to be given again, unless its worker is back first
                self.changed(job)
        elif not (report.lost and absence.give_again(self, live, job, ended=True)):
            self._job_finished(live, job, report, at)

    def _job_started(self, live: LiveWorkload, job: LiveJob, at: float) -> None:
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STARTED)
        job.started_at = at
        self.changed(job)
        self.started.append(job)
        self.news.job(live, job, "started")

    def _job_finished(
        self, live: LiveWorkload, job: LiveJob, report: JobFinished, at: float
    ) -> None:
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.ENDED)
        job.result = report.result
        if job.reason is not None and report.result is Result.STOPPED:
            job.result = Result.FAILED  # it was ended because it ran out of time
        job.reason = job.reason or report.reason
        job.exit_status = report.exit_status
        job.finished_at = at if job.started_at is None else max(at, job.started_at)
        self.books.lost.pop(job.id, None)
        self.changed(job)
        if job.result is Result.PASSED and job.started_at is not None:
            self._remember_duration(live, job, job.finished_at - job.started_at)
        if report.commit is not None and live.commit is None:
            live.commit = report.commit
            self._workloads[live.id] = live
        ended = core.JobsEnded(live.id, (job_index(job.id),), job.result)
        decisions = self.books.core.apply(ended, self.now)
        self.news.job(live, job, "finished")
        self._carry_out(decisions)

    def end(self, live: LiveWorkload, job: LiveJob, result: Result, reason: str) -> None:
        """Nobody will report it: it has ended."""
        assert job.lease_token is not None
        self._job_finished(
            live,
            job,
            JobFinished(job.id, job.lease_token, self.now, result, None, reason),
            self.now,
        )

    def _out_of_time(self, job: LiveJob) -> None:
        """The worker did not end it at its time limit: it is told to."""
        found = self.books.job(job.id)
        if found is None or found[1] is not job or job.state is JobState.FINISHED:
            return
        if job.id in self.books.lost:
            return  # lost in this very turn: what is given again has a time limit of its own
        live = found[0]
        limit = live.jobs[job_index(job.id)].timeout_seconds
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
        job.reason = f"time limit of {limit:g} s"
        self.changed(job)
        self.tell(job)

    def _remember_duration(self, live: LiveWorkload, job: LiveJob, seconds: float) -> None:
        key = (live.project, live.jobs[job_index(job.id)].name)
        recent = (*self.books.durations.get(key, ()), seconds)[-RUNS_REMEMBERED:]
        self.books.durations[key] = recent
        self._durations[key] = DurationChange(*key, recent, expected_duration(recent))

    # --- What was asked ---------------------------------------------------------------------

    def _submit(self, command: Submit) -> None:
        project, kind = ProjectId(command.project), Kind(command.kind)
        jobs, asks = self.books.shared(command.jobs)
        live = LiveWorkload(
            WorkloadId(command.workload), project, command.number, kind,
            command.branch, command.tag, command.server, jobs,
        )  # fmt: skip
        self.books.workloads[live.id] = live
        self.news.registered(live, command)
        self.decide(
            core.Submit(
                live.id, kind, project, command.branch,
                lane_of(kind, project, command.branch, command.tag, command.server),
                command.priority, command.created_at, asks,
                Cancellation(command.cancellation), command.fail_fast,
            )
        )  # fmt: skip

    def _project(self, command: ProjectSet) -> None:
        project = ProjectId(command.project)
        self.books.projects[project] = command.name
        self.decide(core.ProjectLimited(project, command.max_boxes))
        self.news.project_changed(command.name)

    def _boxes(self, command: BoxesSet) -> None:
        """A worker connected: its Boxes that are new come, those it has no more go."""
        worker = WorkerId(command.worker)
        if command.connection < self.books.connections.get(worker, 0):
            return  # it has connected anew since: that is told, too
        self.books.connections[worker] = command.connection
        has = {BoxId(id_): box_type for id_, _, box_type in command.boxes}
        for book in self.books.boxes_of(worker):
            if book.id not in has:
                self.retire(book.id)
        for id_, box_type in has.items():
            for leaving in (self._gone, self._retired):
                leaving.pop(id_, None)  # an earlier command of this turn sent it away
            known = self.books.boxes.get(id_)
            if known is None:
                known = BoxBook(id_, worker, None, None, None, self._next_freed_at())
                self.books.add_box(known)
                self._freed[id_] = _change(known)
            elif self.books.core.boxes[id_].retired:  # the worker is back with it
                self._taken[id_] = _change(known)
            self.decide(core.BoxAdded(id_, box_type))
        self.books.places[worker] = command.node
        absence.back(self, worker)
        self.news.worker("connected", worker)
        self.news.boxes_changed()
        self.to_tell.add(worker)

    def retire(self, box: BoxId) -> None:
        """It goes: at once, or with the job on it."""
        if self.books.core.boxes[box].retired:
            return
        self._retired[box] = None
        self.decide(core.BoxRetired(box))

    def free_anew(self, boxes: Iterable[BoxId]) -> None:
        """Free Boxes of a worker that is back: they come behind all that were free before."""
        for box in boxes:
            book = self.books.boxes[box]
            if book.job is None:
                book.freed_at = self._next_freed_at()
                self._freed[box] = _change(book)

    def _next_freed_at(self) -> float:
        self._freed_at += FREED_STEP_SECONDS
        return self._freed_at

    # --- What the core decided --------------------------------------------------------------

    def decide(self, event: core.Event) -> None:
        self._carry_out(self.books.core.apply(event, self.now))

    def _carry_out(self, decisions: list[core.Decision]) -> None:
        for decision in decisions:
            match decision:
                case core.Queued():
                    self._queued(self._touch(decision.workload))
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
                    by = None if decision.by is None else workload_text(decision.by)
                    self._canceled(self._touch(decision.workload), by or self._asked_by)
                case core.Refused():
                    # Its limit shrank between the answer and now: it never runs.
                    self._canceled(self._touch(decision.workload), "limit")

    def _touch(self, id_: WorkloadId) -> LiveWorkload:
        live = self.books.workloads[id_]
        self._workloads[id_] = live
        return live

    def _queued(self, live: LiveWorkload) -> None:
        live.state = moved(TRANSITIONS, live.state, Move.LANE_FREE)
        live.queued_at = self.now
        self.news.queued(live)

    def _admitted(self, live: LiveWorkload, decision: core.Admitted) -> None:
        live.state = moved(TRANSITIONS, live.state, Move.ADMITTED)
        live.started_at = self.now
        live.running = []
        for index, box in enumerate(decision.boxes):
            id_ = job_id(live.id, index)
            state = moved(JOB_TRANSITIONS, JobState.WAITING, JobMove.ASSIGNED)
            job = LiveJob(id_, state, box, 1, self.token)
            live.running.append(job)
            self.changed(job)
            book = self.books.boxes[box]
            book.job = id_
            self._taken[box] = _change(book)
            self.to_tell.add(book.worker)
        self.news.started(live, [str(box) for box in decision.boxes], decision.warm)

    def _given_again(self, live: LiveWorkload, decision: core.GivenAgain) -> None:
        assert live.running is not None
        job = live.running[decision.job]
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.GIVEN_AGAIN)
        job.box, job.attempt, job.lease_token = decision.box, job.attempt + 1, self.token
        job.started_at = job.reason = None
        self.books.lost.pop(job.id, None)
        self.changed(job)
        book = self.books.boxes[decision.box]
        book.job = job.id
        self._taken[decision.box] = _change(book)
        self.to_tell.add(book.worker)
        self.news.job(live, job, "given_again")

    def _box_freed(self, decision: core.BoxFreed) -> None:
        book = self.books.boxes[decision.box]
        if book.job is not None:
            found = self.books.job(book.job)
            assert found is not None
            live = found[0]
            book.last_project, book.last_branch = live.project, live.branch
        book.job = None
        book.freed_at = self._next_freed_at()
        if decision.gone:
            self._gone[book.id] = None
            self.books.remove_box(book)
            self._freed.pop(book.id, None)
            self._taken.pop(book.id, None)
        else:
            self._freed[book.id] = _change(book)
            self._taken.pop(book.id, None)
        self.to_tell.add(book.worker)

    def _stop_jobs(self, live: LiveWorkload, decision: core.StopJobs) -> None:
        assert live.running is not None
        live.state = moved(TRANSITIONS, live.state, Move.STOP_ASKED)
        live.stop_cause = decision.cause
        for index in decision.jobs:
            job = live.running[index]
            job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
            self.changed(job)
            self.tell(job)
        by = self._asked_by if decision.cause is StopCause.ASKED else None
        self.news.stopping(live, by if decision.by is None else workload_text(decision.by))
        for job in [live.running[index] for index in decision.jobs]:
            if job.id in self.books.lost:  # nobody has it: it is not given again
                self.end(live, job, Result.STOPPED, absence.LOST)

    def _finished(self, live: LiveWorkload, result: Result) -> None:
        live.state = moved(TRANSITIONS, live.state, Move.JOBS_ENDED)
        self._end(live, result, None)

    def _canceled(self, live: LiveWorkload, by: str | None) -> None:
        live.state = moved(TRANSITIONS, live.state, Move.CANCELED)
        for index in range(len(live.jobs)):
            id_ = job_id(live.id, index)
            job = LiveJob(id_, JobState.FINISHED, None, 0, None, Result.CANCELED)
            job.finished_at = self.now
            self.changed(job)
        self._end(live, Result.CANCELED, by)

    def _end(self, live: LiveWorkload, result: Result, by: str | None) -> None:
        live.result = result
        live.finished_at = self.now
        del self.books.workloads[live.id]
        self.news.finished(live, by)

    def changed(self, job: LiveJob) -> None:
        """Its row is part of the batch."""
        self._jobs[job.id] = job

    def tell(self, job: LiveJob) -> None:
        """Its worker has something to look up."""
        assert job.box is not None
        self.to_tell.add(self.books.boxes[job.box].worker)

    # --- The batch --------------------------------------------------------------------------

    def batch(self, shard: int, epoch: int, number: int, inbox: Iterable[InboxEntry]) -> Batch:
        """All of it, in the order that the unique indexes need: ends, frees, begins."""
        ended: list[WorkloadChange] = []
        going: list[WorkloadChange] = []
        for live in self._workloads.values():
            row = WorkloadChange(
                live.id, live.state, live.result, live.stop_cause,
                live.queued_at, live.started_at, live.finished_at, live.commit,
            )  # fmt: skip
            (ended if live.state is State.FINISHED else going).append(row)
        jobs = tuple(
            JobChange(
                j.id, j.state, j.result, j.box, j.attempt, j.lease_token,
                j.started_at, j.finished_at, j.exit_status, j.reason,
            )
            for j in self._jobs.values()
        )  # fmt: skip
        return Batch(
            shard=shard,
            epoch=epoch,
            batch=number,
            inbox=tuple(entry.id for entry in inbox),
            ended=tuple(ended),
            workloads=tuple(going),
            jobs=jobs,
            freed=tuple(self._freed.values()),
            taken=tuple(self._taken.values()),
            gone=tuple(self._gone),
            retired=tuple(self._retired),
            durations=tuple(self._durations.values()),
            events=tuple(self.news.events),
        )


def _change(book: BoxBook) -> BoxChange:
    return BoxChange(book.id, book.job, book.last_project, book.last_branch, book.freed_at)
