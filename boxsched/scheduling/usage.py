"""The Boxes in use, of all types, and the running jobs in the order of their expected ends."""

from bisect import bisect_left, insort
from collections.abc import Iterator
from heapq import merge

import attrs

from boxsched.scheduling.boxes import Box
from boxsched.scheduling.workload import RunningEntry, RunningGroup


@attrs.define(eq=False)
class Usage:
    """The Boxes in use, of all types, and the running groups of jobs, sorted by the end that
    counts.
    """

    boxes: int = 0
    # RunningGroup.entry, sorted; plain lists, since together they are never longer than there are
    # Boxes. By expected end: those on time; by time limit: those that ``advance`` found late.
    running: list[RunningEntry] = attrs.field(factory=list)
    late: list[RunningEntry] = attrs.field(factory=list)

    def add(self, group: RunningGroup) -> None:
        insort(self.running, group.entry)

    def remove(self, group: RunningGroup) -> None:
        entries = self.late if group.late else self.running
        del entries[bisect_left(entries, group.entry)]

    def leave(self, box: Box) -> None:
        """Remove the job on this Box from its group."""
        group = box.group
        assert group is not None
        group.jobs -= 1
        group.returning -= not box.retired
        if not group.jobs:
            self.remove(group)
            del group.entry  # because it refers to the group
        box.group = None

    def advance(self, now: float) -> None:
        """Mark groups whose expected end has passed as late. Each group is moved once, so a later
        pass costs nothing for it."""
        passed = bisect_left(self.running, (now,))
        for _, id_, number, group in self.running[:passed]:
            group.late = True
            group.entry = (group.last, id_, number, group)
            insort(self.late, group.entry)
        del self.running[:passed]

    def by_end(self, now: float) -> Iterator[RunningEntry]:
        """All running groups, ordered by the ends that count at ``now``; an end may be in the past.

        Changes nothing, so that it may be called between two instants.
        """
        passed = bisect_left(self.running, (now,))
        if not (passed or self.late):
            return iter(self.running)
        since = ((group.last, id_, n, group) for _, id_, n, group in self.running[:passed])
        return merge(self.running[passed:], self.late, sorted(since))
