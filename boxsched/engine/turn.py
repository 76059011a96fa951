"""Run a turn: apply everything that arrived since the last one as one instant of the shard.

Each kind of step has its module: requests (``submissions``, ``planning``, ``resolving``,
``pauses``, ``draining``, ``ghosts``), attempts that begin and end (``endings``), workers that
connect, leave and fall silent (``absence``). ``outcomes.Outcomes`` collects the changes for the
batch that commits them.
"""

from collections.abc import Iterable

from boxsched.engine import (
    absence,
    compatibility,
    draining,
    endings,
    ghosts,
    pauses,
    planning,
    resolving,
    submissions,
)
from boxsched.engine.limits import NOTHING_OVERDUE, Overdue
from boxsched.engine.outcomes import Outcomes
from boxsched.engine.watch import NOTHING_SEEN, Sights
from boxsched.model import WorkerId
from boxsched.protocol.inbox import (
    BoxesSet,
    Command,
    CommitFixed,
    DrainEnded,
    DrainSet,
    GhostKilled,
    PauseEnded,
    PauseSet,
    Planned,
    ProjectSet,
    RefusedWorker,
    Reports,
    Reprioritize,
    Resolve,
    Restore,
    Stop,
    Submit,
    WorkerForgotten,
)
from boxsched.scheduling import interface as core


def run(
    out: Outcomes,
    commands: Iterable[Command],
    overdue: Overdue = NOTHING_OVERDUE,
    sights: Sights = NOTHING_SEEN,
    idle: Iterable[str] = (),
) -> None:
    """Run one instant (docs/scheduling.md, "One instant"): 1. all jobs that ended; 2. workers that
    left or came back; 3. requests, in their order; 4. the core's decisions. ``idle``: lanes without
    a build for a long time.
    """
    commands = list(commands)
    for command in commands:
        if isinstance(command, Reports):
            for said in command.reports:
                endings.report(out, WorkerId(command.worker), said)
    absence.apply(out, sights)
    for job in overdue.to_end:
        endings.out_of_time(out, job)
    for job in overdue.to_give_up:
        endings.give_up(out, job)
    for command in commands:
        match command:
            case Submit():
                submissions.submit(out, command)
            case Planned():
                planning.planned(out, command)
            case Stop():
                submissions.stop(out, command)
            case Reprioritize():
                pauses.reprioritize(out, command)
            case PauseSet():
                pauses.begin(out, command)
            case PauseEnded():
                pauses.end(out, command)
            case Resolve():
                resolving.apply(out, command)
            case ProjectSet():
                submissions.project(out, command)
            case CommitFixed():
                submissions.commit_fixed(out, command)
            case BoxesSet():
                absence.connected(out, command)
            case WorkerForgotten():
                absence.forget(out, command)
            case DrainSet():
                draining.begin(out, command)
            case DrainEnded():
                draining.end(out, command)
            case RefusedWorker():
                out.news.refused_worker(command)
            case Reports():  # what they say of jobs was applied first
                ghosts.tell(out, command)
            case GhostKilled():
                ghosts.killed(out, command)
            case Restore():
                ghosts.restore(out, command)
    compatibility.apply(out)
    draining.stop_overdue(out)
    pauses.end_those_over(out)
    for lane in idle:
        out.decide(core.LaneIdle(lane))
    out.settle()
    draining.note_done(out)
