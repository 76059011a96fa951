"""Apply pauses and changed priorities to waiting workloads."""

from boxsched.engine.books import Books
from boxsched.engine.outcomes import Outcomes
from boxsched.model import Kind, ProjectId, WorkloadId, lane_key
from boxsched.protocol.batches import PauseOver
from boxsched.protocol.inbox import PauseEnded, PauseSet, Reprioritize
from boxsched.protocol.shards import Pause
from boxsched.scheduling import interface as core


def event(pause: Pause) -> core.Pause:
    """Return the core's event for the pause."""
    lane = None
    if pause.server is not None and pause.project is not None:
        lane = lane_key(Kind.DEPLOY, pause.project, None, None, pause.server)
    return core.Pause(pause.name, pause.project, pause.branch, lane, pause.automatic)


def begin(out: Outcomes, command: PauseSet) -> None:
    project = None if command.project is None else ProjectId(command.project)
    pause = Pause(
        command.name, project, command.branch, command.server, command.automatic, command.note,
        command.by, command.since, command.until,
    )  # fmt: skip
    out.books.pauses[pause.name] = pause
    out.news.paused(pause)
    out.decide(event(pause))


def end(out: Outcomes, command: PauseEnded) -> None:
    pause = out.books.pauses.pop(command.name, None)
    if pause is not None:
        out.news.resumed(pause, command.by)
        out.decide(core.Resume(pause.name))


def over(books: Books, now: float) -> list[Pause]:
    """Return the pauses whose end time has come."""
    return [p for p in books.pauses.values() if p.until is not None and p.until <= now]


def end_those_over(out: Outcomes) -> None:
    for pause in over(out.books, out.now):
        assert pause.until is not None
        del out.books.pauses[pause.name]
        out.draft.pause_over(PauseOver(pause.name, pause.until))
        out.news.resumed(pause, None)
        out.decide(core.Resume(pause.name))


def reprioritize(out: Outcomes, command: Reprioritize) -> None:
    out.asked_by, out.note = command.by, command.note
    out.decide(core.Reprioritize(WorkloadId(command.workload), command.priority))
