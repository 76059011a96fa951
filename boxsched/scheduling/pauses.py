"""Pauses: which waiting workloads may not be admitted for now, because a person said so."""

from collections.abc import Callable

from boxsched.globs import Automaton
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
        replaced = self._drop(event.name)
        self._pauses[event.name] = event
        mine = self._of.setdefault(event.project, [])
        mine.append((event.name, _covers(event)))
        mine.sort(key=lambda each: each[0])
        self._queue.set_aside(self._is_paused)
        if replaced:
            self._queue.take_back(self._is_paused)

    def resume(self, event: Resume, now: float, decisions: list[Decision]) -> None:
        if self._drop(event.name):
            self._queue.take_back(self._is_paused)

    def _drop(self, name: str) -> bool:
        """Remove the pause; False if there is none of this name."""
        pause = self._pauses.pop(name, None)
        if pause is None:
            return False
        rest = [each for each in self._of[pause.project] if each[0] != name]
        if rest:
            self._of[pause.project] = rest
        else:
            del self._of[pause.project]
        return True

    def _is_paused(self, workload: Workload) -> bool:
        return self.covering(workload) is not None

    def covering(self, workload: Workload) -> str | None:
        """The name of a pause that covers the workload: the first one by name, if any."""
        if not self._pauses:
            return None
        found = [
            name
            for project in (None, workload.project.id)
            for name, covers in self._of.get(project, ())
            if covers(workload)
        ]
        return min(found) if found else None

    def in_order(self) -> tuple[Pause, ...]:
        """All pauses, in the order of their names."""
        return tuple(self._pauses[name] for name in sorted(self._pauses))


def _covers(pause: Pause) -> Covers:
    """docs/scheduling.md, "Pauses"; the project was looked at already."""
    automaton = Automaton((pause.branch,)) if pause.branch is not None else None

    def covers(workload: Workload) -> bool:
        if pause.automatic and not workload.automatic:
            return False
        if pause.lane is not None:
            return workload.lane is not None and workload.lane.key == pause.lane
        if automaton is None:
            return True
        branch = workload.branch
        if workload.kind is not Kind.BUILD or branch is None:
            return False
        return automaton.first_match(branch) is not None

    return covers
