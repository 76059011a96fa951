"""One turn: all that came in since the last one, applied as one instant of the shard.

The steps stand apart: what was asked (``submissions``, ``resolving``), attempts that begin and end
(``endings``), workers that come, go and fall silent (``absence``). What they change is gathered by
``outcomes.Outcomes``, for the batch that commits it.
"""

from collections.abc import Iterable

from boxsched.engine import absence, endings, resolving, submissions
from boxsched.engine.limits import NOTHING_OVERDUE, Overdue
from boxsched.engine.outcomes import Outcomes
from boxsched.engine.watch import NOTHING_SEEN, Sights
from boxsched.model import WorkerId
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


def run(
    out: Outcomes,
    commands: Iterable[Command],
    overdue: Overdue = NOTHING_OVERDUE,
    sights: Sights = NOTHING_SEEN,
) -> None:
    """One instant (docs/scheduling.md, "One instant"): 1. all jobs that ended; 2. workers that went
    or came; 3. what was asked, in its order; 4. what the core makes of it."""
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
            case Stop():
                submissions.stop(out, command)
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
    out.settle()
