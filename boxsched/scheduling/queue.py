"""The queue of phase 2: what waits for Boxes, in queue order, grouped by shape.

Workloads of one shape (the same Boxes asked, the same expected durations, the same project limit) are
interchangeable for the gate: if the first of them may not go, neither may the others in that pass. So
a pass looks at the shapes' heads only, and its cost grows with the shapes, not with what waits.
"""

from collections.abc import Iterator
from heapq import heappop, heappush

from sortedcontainers import SortedList

from boxsched.scheduling.workload import Ask, Entry, ProjectUse, Workload


class Shape:
    """The waiting workloads that are interchangeable for the gate."""

    __slots__ = ("ask", "key", "project", "waiting")

    def __init__(self, ask: Ask, project: ProjectUse | None) -> None:
        self.ask = ask
        self.project = project  # only where it has a limit
        self.key = (ask, project)
        self.waiting = SortedList()

    @property
    def head(self) -> Workload:
        workload: Workload = self.waiting[0][3]
        return workload


def _shape_key(workload: Workload) -> tuple[Ask, ProjectUse | None]:
    return (workload.ask, workload.project if workload.project.limit is not None else None)


class Queue:
    def __init__(self) -> None:
        self._shapes: dict[tuple[Ask, ProjectUse | None], Shape] = {}
        self._heads = SortedList()  # (key, key, id, shape)
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, workload: Workload) -> None:
        entry = workload.entry
        assert entry is not None
        key = _shape_key(workload)
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(*key)
            self._heads.add((*entry[:3], shape))
        elif entry < shape.waiting[0]:
            self._heads.remove((*shape.waiting[0][:3], shape))
            self._heads.add((*entry[:3], shape))
        shape.waiting.add(entry)
        self._length += 1

    def remove(self, workload: Workload) -> None:
        entry = workload.entry
        assert entry is not None
        shape = self._shapes[_shape_key(workload)]
        waiting = shape.waiting
        self._length -= 1
        if waiting[0] is not entry:
            waiting.remove(entry)
            return
        self._heads.remove((*entry[:3], shape))
        del waiting[0]
        if waiting:
            self._heads.add((*waiting[0][:3], shape))
        else:
            del self._shapes[shape.key]

    def walk(self) -> "Walk":
        """One pass over the shapes in queue order."""
        return Walk(list(self._heads))

    def regroup(self, project: ProjectUse, limit: int | None) -> None:
        """A project's limit came or went: its waiting workloads change shape (a rare, slow act)."""
        mine = [w for w in self.workloads() if w.project is project]
        for workload in mine:
            self.remove(workload)
        project.limit = limit
        for workload in mine:
            self.add(workload)

    def workloads(self) -> Iterator[Workload]:
        """All that wait, shape by shape."""
        for shape in self._shapes.values():
            for entry in shape.waiting:
                yield entry[3]

    def in_order(self, limit: int) -> list[Workload]:
        """The first so many, in queue order."""
        entries = [e for shape in self._shapes.values() for e in shape.waiting[:limit]]
        return [entry[3] for entry in sorted(entries)[:limit]]

    def shape_of(self, workload: Workload) -> Shape:
        return self._shapes[_shape_key(workload)]

    def position(self, workload: Workload) -> int:
        """1 = next. Grows with the shapes only."""
        before = (int(s.waiting.bisect_left(workload.entry)) for s in self._shapes.values())
        return 1 + sum(before)

    def check(self) -> None:
        assert self._length == sum(len(s.waiting) for s in self._shapes.values())
        assert len(self._heads) == len(self._shapes)
        for key, shape in self._shapes.items():
            assert shape.waiting and key == shape.key == _shape_key(shape.head)
            assert (*shape.waiting[0][:3], shape) in self._heads
            assert all(entry[3].entry is entry for entry in shape.waiting)


class Walk:
    """The shapes in the order of their heads; a shape whose head was admitted may come again."""

    __slots__ = ("_again", "_at", "_heads")

    def __init__(self, heads: list[Entry]) -> None:
        self._heads = heads
        self._at = 0
        self._again: list[Entry] = []

    def next(self) -> Shape | None:
        heads, at, again = self._heads, self._at, self._again
        if at < len(heads) and (not again or heads[at] < again[0]):
            self._at = at + 1
            shape: Shape = heads[at][3]
            return shape
        if again:
            shape = heappop(again)[3]
            return shape
        return None

    def once_more(self, shape: Shape) -> None:
        """Its head was admitted: its next one has its own place in the queue."""
        if shape.waiting:
            heappush(self._again, (*shape.waiting[0][:3], shape))
