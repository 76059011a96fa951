"""One turn: commands in, the core's instant, and the rows and events of one batch out.

What comes of the workers stands apart: ``endings`` of their jobs, and their ``absence``.
"""

from collections.abc import Iterable

from boxsched.engine import absence, causes, endings, readiness, resolving
from boxsched.engine.books import Books, BoxBook, LiveJob, LiveWorkload, lane_of
from boxsched.engine.draft import Draft
from boxsched.engine.limits import NOTHING_OVERDUE, Overdue
from boxsched.engine.news import Happenings
from boxsched.engine.watch import NOTHING_SEEN, Sights
from boxsched.model import (
    BoxId,
    Cancellation,
    Kind,
    ProjectId,
    WorkerId,
    WorkloadId,
    job_id,
    workload_text,
)
from boxsched.protocol.inbox import (
    BoxesSet,
    Command,
    CommitFixed,
    ProjectSet,
    Reports,
    Resolve,
    Stop,
    Submit,
    WorkerForgotten,
)
from boxsched.protocol.workers import Connection
from boxsched.scheduling import interface as core
from boxsched.states import (
    JOB_TRANSITIONS,
    TRANSITIONS,
    JobMove,
    JobState,
    Move,
    Result,
    StopCause,
    moved,
)

FREED_STEP_SECONDS = 1e-6


class Turn:
    """Applies commands to the books and the core; ``draft`` and ``news`` are what to commit.

    ``token`` is the lease token of every job assigned in this turn: the batch's number, so it grows
    along a job and along a lane. Once begun, a turn is committed or the books are dropped.
    """

    def __init__(self, books: Books, now: float, token: int) -> None:
        self.books = books
        self.now = now
        self.token = token
        self.draft = Draft(now)
        self.news = Happenings(books, now)
        self.to_tell: set[WorkerId] = set()  # workers that have something to look up
        # Workers that can begin no jobs, and why; None: they can again. To be logged.
        self.problems: dict[WorkerId, str | None] = {}
        self.timed: list[LiveJob] = []  # assigned, begun or stopped: their deadlines run now
        self.hung_up: dict[WorkerId, Connection] = {}  # workers that are to connect anew
        self._asked_by = ""  # who asked for the stop that is being applied
        self._strategy = ""  # the cancellation strategy of the build that is being registered

    def run(
        self,
        commands: Iterable[Command],
        overdue: Overdue = NOTHING_OVERDUE,
        sights: Sights = NOTHING_SEEN,
    ) -> None:
        """One instant (contract, section 1): 1. all jobs that ended; 2. workers that went or came;
        3. what was asked, in its order; 4. what the core makes of it."""
        commands = list(commands)
        for command in commands:
            if isinstance(command, Reports):
                for said in command.reports:
                    endings.report(self, WorkerId(command.worker), said)
        absence.apply(self, sights)
        for job in overdue.to_end:
            endings.out_of_time(self, job)
        for job in overdue.to_give_up:
            endings.give_up(self, job)
        for command in commands:
            match command:
                case Submit():
                    self._submit(command)
                case Stop():
                    self._asked_by = command.by
                    self.decide(core.Stop(WorkloadId(command.workload)))
                case Resolve():
                    resolving.apply(self, command)
                case ProjectSet():
                    self._project(command)
                case CommitFixed():
                    self._commit_fixed(command)
                case BoxesSet():
                    self._boxes(command)
                case WorkerForgotten():
                    absence.forget(self, command)
        self.carry_out(self.books.core.settle(self.now))

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
        self._strategy = command.cancellation
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
        if command.deleted:
            self.books.forget_project(project)
        else:
            self.books.projects[project] = command.name
        self.decide(core.ProjectLimited(project, command.max_boxes))
        self.news.project("deleted" if command.deleted else "changed", command.name)

    def _commit_fixed(self, command: CommitFixed) -> None:
        """The store has it already: it is only to be shown."""
        live = self.books.workloads.get(WorkloadId(command.workload))
        if live is not None:
            live.commit = command.commit
            self.news.commit(live)

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
            self.draft.come(id_)
            known = self.books.boxes.get(id_)
            if known is None:
                known = BoxBook(id_, worker, None, None, None, self.now)
                self.books.add_box(known)
                self.draft.free(known)
            elif self.books.core.boxes[id_].retired:  # the worker is back with it
                self.draft.take(known)
            self.decide(core.BoxAdded(id_, box_type))
        self.books.places[worker] = command.node
        readiness.connected(self, worker, command.problem)
        absence.back(self, worker)
        self.news.worker("connected", worker)
        self.news.boxes_changed()
        self.to_tell.add(worker)

    def retire(self, box: BoxId) -> None:
        """It goes: at once, or with the job on it."""
        if self.books.core.boxes[box].retired:
            return
        self.draft.retire(box)
        self.decide(core.BoxRetired(box))

    def hang_up(self, worker: WorkerId) -> None:
        """It is to connect anew, and its Boxes get no job until then."""
        self.hung_up[worker] = Connection(worker, self.books.connections.get(worker, 0))
        self.decide(core.BoxesAway(tuple(book.id for book in self.books.boxes_of(worker))))

    def free_anew(self, boxes: Iterable[BoxId]) -> None:
        """Free Boxes of a worker that is back: they come behind all that were free before."""
        for box in boxes:
            book = self.books.boxes[box]
            if book.job is None:
                self.draft.free(book)

    # --- What the core decided --------------------------------------------------------------

    def decide(self, event: core.Event) -> None:
        self.carry_out(self.books.core.apply(event, self.now))

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
                case core.Refused():
                    live = self._touch(decision.workload)
                    self._never_runs(live, "limit", causes.refused(len(live.jobs)))

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
            self.to_tell.add(book.worker)
        self.news.started(live, [str(box) for box in decision.boxes], decision.warm)

    def _given_again(self, live: LiveWorkload, decision: core.GivenAgain) -> None:
        assert live.running is not None
        job = live.running[decision.job]
        job.state = moved(JOB_TRANSITIONS, job.state, JobMove.GIVEN_AGAIN)
        job.box, job.attempt, job.lease_token = decision.box, job.attempt + 1, self.token
        job.started_at = job.reason = None
        job.given_at = self.now
        self.books.lost.pop(job.id, None)
        self.timed.append(job)
        self.draft.job(job)
        book = self.books.boxes[decision.box]
        book.job = job.id
        self.draft.take(book)
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
        if decision.gone:
            self.books.remove_box(book)
            self.draft.go(book.id)
        else:
            self.draft.free(book)
        self.to_tell.add(book.worker)

    def _stop_jobs(self, live: LiveWorkload, decision: core.StopJobs) -> None:
        assert live.running is not None
        live.state = moved(TRANSITIONS, live.state, Move.STOP_ASKED)
        live.stop_cause = decision.cause
        by: str | None = None
        if decision.by is not None:
            by = workload_text(decision.by)
            live.reason = causes.superseded(self.books, decision.by, self._strategy)
        elif decision.cause is StopCause.ASKED:
            by = self._asked_by
            live.reason = f"stopped by {by}"
        for index in decision.jobs:
            job = live.running[index]
            job.state = moved(JOB_TRANSITIONS, job.state, JobMove.STOP_ASKED)
            self.timed.append(job)
            self.draft.job(job)
            self.tell(job)
        self.news.stopping(live, by)
        for job in [live.running[index] for index in decision.jobs]:
            if job.id in self.books.lost:  # nobody has it: it is not given again
                endings.end(self, live, job, Result.STOPPED, absence.LOST)

    def _finished(self, live: LiveWorkload, result: Result) -> None:
        live.state = moved(TRANSITIONS, live.state, Move.JOBS_ENDED)
        live.reason = causes.finished(live, result)
        self._end(live, result, None)

    def _canceled(self, live: LiveWorkload, decision: core.Canceled) -> None:
        if decision.by is None:
            self._never_runs(live, self._asked_by, f"canceled by {self._asked_by}")
        else:
            why = causes.superseded(self.books, decision.by, self._strategy)
            self._never_runs(live, workload_text(decision.by), why)

    def _never_runs(self, live: LiveWorkload, by: str, reason: str) -> None:
        live.reason = reason
        live.state = moved(TRANSITIONS, live.state, Move.CANCELED)
        for index in range(len(live.jobs)):
            id_ = job_id(live.id, index)
            job = LiveJob(id_, JobState.FINISHED, None, 0, None, Result.CANCELED)
            job.finished_at, job.reason = self.now, reason
            self.draft.job(job)
        self._end(live, Result.CANCELED, by)

    def _end(self, live: LiveWorkload, result: Result, by: str | None) -> None:
        live.result = result
        live.finished_at = self.now
        del self.books.workloads[live.id]
        self.news.finished(live, by)

    def tell(self, job: LiveJob) -> None:
        """Its worker has something to look up."""
        assert job.box is not None
        self.to_tell.add(self.books.boxes[job.box].worker)
