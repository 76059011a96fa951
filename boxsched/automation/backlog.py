"""Which build's file is read next: the projects take turns, and a project's builds go by id.

The builds that have no jobs are in the database. Here are only those whose file is being read and
those that rest between two tries, both of a limited number. A project whose repository does not
answer is troubled: it gets one place, troubled projects together get few, and once many of its
builds rest, no further one begins. So it delays its own builds, and not those of the others.
"""

import heapq
from collections.abc import Iterator

import attrs

from boxsched.model import ProjectId, WorkloadId

AT_ONCE, AT_ONCE_OF_A_PROJECT = 8, 2  # files that a node reads at the same time
AT_ONCE_TROUBLED = 4  # of them, of all troubled projects together; one each
RESTING_OF_A_PROJECT = 50
NONE = WorkloadId(0)  # behind no build
TROUBLED_AT_MOST = 10_000  # projects that are remembered as such while nothing of them is read


@attrs.define(eq=False)
class Reading:
    """A build whose file is read, until that is done. ``tried``: seconds, of all tries so far."""

    id: WorkloadId
    project: ProjectId
    pauses: Iterator[float]
    tried: float = 0.0


@attrs.define(eq=False)
class Line:
    """What is under way of a project. ``after``: builds up to this one have begun, as far as is
    known: one that was submitted at the same time may be seen later."""

    reading: dict[WorkloadId, Reading] = attrs.field(factory=dict)
    resting: list[tuple[float, WorkloadId, Reading]] = attrs.field(factory=list)  # a heap
    after: WorkloadId = NONE
    troubled: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.reading and not self.resting


class Backlog:
    def __init__(self) -> None:
        self._lines: dict[ProjectId, Line] = {}
        self._reading: list[Line] = []  # the line of each

    @property
    def is_full(self) -> bool:
        """Whether no other file may be read now."""
        return len(self._reading) >= AT_ONCE

    def begun(self, project: ProjectId) -> WorkloadId:
        """The builds of the project up to this one have begun."""
        line = self._lines.get(project)
        return line.after if line else NONE

    def busy(self, project: ProjectId) -> set[WorkloadId]:
        """The builds of the project that are being read, or rest."""
        line = self._lines.get(project)
        return set(line.reading) | {id_ for _, id_, _ in line.resting} if line else set()

    def has_place(self, project: ProjectId) -> bool:
        """Whether another file of the project may be read now."""
        line = self._lines.get(project)
        if self.is_full or line is None:
            return not self.is_full
        if line.troubled:
            troubled = sum(one.troubled for one in self._reading)
            return not line.reading and troubled < AT_ONCE_TROUBLED
        return len(line.reading) < AT_ONCE_OF_A_PROJECT

    def may_begin(self, project: ProjectId) -> bool:
        """Whether, besides, a build that was not tried yet may be."""
        line = self._lines.get(project)
        return line is None or len(line.resting) < RESTING_OF_A_PROJECT

    def due(self, project: ProjectId, now: float) -> Reading | None:
        """The build of the project that has rested; its next try begins."""
        line = self._lines.get(project)
        if line is None or not line.resting or line.resting[0][0] > now:
            return None
        reading = heapq.heappop(line.resting)[2]
        line.after = NONE  # look for those that were seen late
        self._start(line, reading)
        return reading

    def begin(self, reading: Reading) -> None:
        """Its first try begins."""
        line = self._lines.setdefault(reading.project, Line())
        line.after = max(line.after, reading.id)
        self._start(line, reading)

    def skip(self, project: ProjectId, id_: WorkloadId) -> None:
        """Builds of a project of which something is under way have begun up to this one."""
        self._lines[project].after = id_

    def rest(self, reading: Reading, due: float, *, troubled: bool) -> None:
        """A try ended, and there is another one, at ``due`` by the event loop's clock.
        ``troubled``: the repository did not answer."""
        line = self._end(reading)
        heapq.heappush(line.resting, (due, reading.id, reading))
        line.troubled = troubled

    def done(self, reading: Reading, *, troubled: bool) -> None:
        """The last try ended."""
        line = self._end(reading)
        line.troubled = troubled
        if line.is_empty:
            del self._lines[reading.project]
            if troubled:
                self._lines[reading.project] = Line(troubled=True)  # the youngest of all
                self._forget()

    def clear(self) -> None:
        """Forget what rests: another node leads."""
        for project, line in list(self._lines.items()):
            line.resting.clear()
            if not line.reading:
                del self._lines[project]

    def _start(self, line: Line, reading: Reading) -> None:
        line.reading[reading.id] = reading
        self._reading.append(line)

    def _end(self, reading: Reading) -> Line:
        line = self._lines[reading.project]
        del line.reading[reading.id]
        self._reading.remove(line)
        return line

    def _forget(self) -> None:
        if len(self._lines) > TROUBLED_AT_MOST:
            oldest = next((p for p, line in self._lines.items() if line.is_empty), None)
            if oldest is not None:
                del self._lines[oldest]
