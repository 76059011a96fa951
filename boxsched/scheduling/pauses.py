"""Pauses: a person forbids the admission of some waiting workloads for a time."""

from collections.abc import Callable, Iterator

from boxsched.globs import one_pattern
from boxsched.model import Kind, ProjectId
from boxsched.scheduling.interface import Decision, Pause, Resume
from boxsched.scheduling.queue import Queue
from boxsched.scheduling.workload import Workload

Covers = Callable[[Workload], bool]


class Pauses:
    """The pauses in force, by name; they decide which workloads the queue sets aside."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._pauses: dict[str, Pause] = {}
        # (name, whether it covers a workload), by project, in the order of the names; None: those
        # of all projects.
        self._of: dict[ProjectId | None, list[tuple[str, Covers]]] = {}

    def enqueue(self, workload: Workload) -> None:
        """Put the workload, which may leave ordering, into the queue."""
        if self.covering(workload) is None:
            self._queue.add(workload)
        else:
            self._queue.add_aside(workload)

    def pause(self, event: Pause, now: float, decisions: list[Decision]) -> None:
        before = self._drop(event.name)
        self._pauses[event.name] = event
        covers = _covers(event)
        mine = self._of.setdefault(event.project, [])
        mine.append((event.name, covers))
        mine.sort(key=lambda each: each[0])
        self._queue.set_aside(_of_project(event, covers))
        if before is not None:
            self._take_back(before)

    def resume(self, event: Resume, now: float, decisions: list[Decision]) -> None:
        ended = self._drop(event.name)
        if ended is not None:
            self._take_back(ended)

    def _drop(self, name: str) -> Covers | None:
        """Remove the pause; what it covered, or None if there is none of this name."""
        pause = self._pauses.pop(name, None)
        if pause is None:
            return None
        (covers,) = [covers for its, covers in self._of[pause.project] if its == name]
        rest = [each for each in self._of[pause.project] if each[0] != name]
        if rest:
            self._of[pause.project] = rest
        else:
            del self._of[pause.project]
        return _of_project(pause, covers)

    def _take_back(self, covered: Covers) -> None:
        """Take back the workloads that this pause covered and no other pause covers."""
        self._queue.take_back(lambda w: covered(w) and self.covering(w) is None)

    def covering(self, workload: Workload) -> str | None:
        """Return the name of the first pause, by name, that covers the workload, if any."""
        return min(self._covering(workload), default=None) if self._pauses else None

    def all_covering(self, workload: Workload) -> tuple[str, ...]:
        """The names of all pauses that cover the workload, in order."""
        return tuple(sorted(self._covering(workload)))

    def _covering(self, workload: Workload) -> Iterator[str]:
        for project in (None, workload.project.id):
            for name, covers in self._of.get(project, ()):
                if covers(workload):
                    yield name

    def in_order(self) -> tuple[Pause, ...]:
        """Return all pauses in the order of their names."""
        return tuple(self._pauses[name] for name in sorted(self._pauses))


def _covers(pause: Pause) -> Covers:
    """Return a function that tests a workload (docs/scheduling.md, "Pauses"); the project is
    already checked.
    """
    matches = one_pattern(pause.branch) if pause.branch is not None else None

    def covers(workload: Workload) -> bool:
        if pause.automatic and not workload.automatic:
            return False
        if pause.lane is not None:
            return workload.lane is not None and workload.lane.key == pause.lane
        if matches is None:
            return True
        branch = workload.branch
        return workload.kind is Kind.BUILD and branch is not None and matches(branch)

    return covers


def _of_project(pause: Pause, covers: Covers) -> Covers:
    """The same, for workloads of any project."""
    if pause.project is None:
        return covers
    return lambda workload: workload.project.id == pause.project and covers(workload)
