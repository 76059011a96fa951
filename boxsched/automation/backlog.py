"""Choose the build whose file is read next: the projects take turns, each with its builds by id.

The builds without jobs are in the database. This module only contains builds whose file is being
read, and builds that pause between two attempts; both are limited. A project whose repository does
not answer is *troubled*: it gets one place, all troubled projects together get few, and when many
of its builds pause, no further one begins. So it delays only its own builds.
"""

import heapq
from collections.abc import Iterator

import attrs

from boxsched.model import ProjectId, WorkloadId

AT_ONCE, AT_ONCE_OF_A_PROJECT = 8, 2  # files that a node reads at the same time
AT_ONCE_TROUBLED = 4  # the same for all troubled projects together; one for each
RESTING_OF_A_PROJECT = 50
NONE = WorkloadId(0)  # before the first build
TROUBLED_AT_MOST = 10_000  # troubled projects that are remembered without a read


@attrs.define(eq=False)
class Reading:
    """A build whose file is being read. ``tried``: seconds of all attempts so far."""

    id: WorkloadId
    project: ProjectId
    pauses: Iterator[float]
    tried: float = 0.0


@attrs.define(eq=False)
class ProjectBacklog:
    """A project's builds that are being read, and those that wait for another attempt.

    ``after``: the last build whose reading has begun. A build with a smaller id may still become
    visible later, if both were submitted at the same time.
    """

    reading: dict[WorkloadId, Reading] = attrs.field(factory=dict)
    resting: list[tuple[float, WorkloadId, Reading]] = attrs.field(factory=list)  # a heap
    after: WorkloadId = NONE
    troubled: bool = False

    @property
    def is_empty(self) -> bool:
        return not self.reading and not self.resting


class Backlog:
    def __init__(self) -> None:
        self._lines: dict[ProjectId, ProjectBacklog] = {}
        self._reading: list[ProjectBacklog] = []  # the line of each

    @property
    def is_full(self) -> bool:
        """Whether no other file may be read now."""
        return len(self._reading) >= AT_ONCE

    def begun(self, project: ProjectId) -> WorkloadId:
        """Return the last build of the project up to which all have begun."""
        line = self._lines.get(project)
        return line.after if line else NONE

    def busy(self, project: ProjectId) -> set[WorkloadId]:
        """Return the builds of the project that are being read or pause."""
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
        """Whether, in addition, a build that was not tried yet may be read."""
        line = self._lines.get(project)
        return line is None or len(line.resting) < RESTING_OF_A_PROJECT

    def due(self, project: ProjectId, now: float) -> Reading | None:
        """Return a build of the project whose pause has ended; its next attempt begins."""
        line = self._lines.get(project)
        if line is None or not line.resting or line.resting[0][0] > now:
            return None
        reading = heapq.heappop(line.resting)[2]
        line.after = NONE  # search again for builds that became visible late
        self._start(line, reading)
        return reading

    def begin(self, reading: Reading) -> None:
        """Note that the build's first attempt begins."""
        line = self._lines.setdefault(reading.project, ProjectBacklog())
        line.after = max(line.after, reading.id)
        self._start(line, reading)

    def skip(self, project: ProjectId, id_: WorkloadId) -> None:
        """Note that all builds of an active project up to this one have begun."""
        self._lines[project].after = id_

    def rest(self, reading: Reading, due: float, *, troubled: bool) -> None:
        """Note that an attempt ended, and the next one is at ``due`` (the loop's clock).
        ``troubled``: the repository did not answer.
        """
        line = self._end(reading)
        heapq.heappush(line.resting, (due, reading.id, reading))
        line.troubled = troubled

    def done(self, reading: Reading, *, troubled: bool) -> None:
        """Note that the last attempt ended."""
        line = self._end(reading)
        line.troubled = troubled
        if line.is_empty:
            del self._lines[reading.project]
            if troubled:
                self._lines[reading.project] = ProjectBacklog(troubled=True)  # the newest entry
                self._forget()

    def clear(self) -> None:
        """Drop builds that wait for another attempt, because another node leads."""
        for project, line in list(self._lines.items()):
            line.resting.clear()
            if not line.reading:
                del self._lines[project]

    def _start(self, line: ProjectBacklog, reading: Reading) -> None:
        line.reading[reading.id] = reading
        self._reading.append(line)

    def _end(self, reading: Reading) -> ProjectBacklog:
        line = self._lines[reading.project]
        del line.reading[reading.id]
        self._reading.remove(line)
        return line

    def _forget(self) -> None:
        if len(self._lines) > TROUBLED_AT_MOST:
            oldest = next((p for p, line in self._lines.items() if line.is_empty), None)
            if oldest is not None:
                del self._lines[oldest]
