"""The queue of phase 2: the workloads that wait for Boxes, in queue order, grouped by shape.

Workloads of one shape (the same Boxes, expected durations, time limits and project limit) are
interchangeable for admission: if the first of them may not start, the others may not start in that
pass either. So a pass looks at the first of each shape, and its cost grows with the number of
shapes, not with the number of waiting workloads. Paused workloads are set aside: they belong to no
shape until their pause ends, so a pass does not meet them.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator

from sortedcontainers import SortedList

from boxsched.scheduling.workload import Ask, Entry, ProjectUse, Workload


class Shape:
    """The waiting workloads that are interchangeable for the gate."""

    __slots__ = ("ask", "key", "project", "waiting")

    def __init__(self, ask: Ask, project: ProjectUse | None) -> None:
        self.ask = ask
        self.project = project  # None if it has no limit
        self.key = (ask, project)
        self.waiting = SortedList()  # contains Workload.entry

    @property
    def head(self) -> Workload:
        workload: Workload = self.waiting[0][3]
        return workload


class Queue:
    def __init__(self) -> None:
        self._shapes: dict[tuple[Ask, ProjectUse | None], Shape] = {}
        # The first entry of each shape, sorted; a plain list: shapes are few (at 100,000 an
        # insertion still moves less than a megabyte), and bisect is in C.
        self._heads: list[Entry] = []
        self._length = 0
        self._aside = SortedList()  # entries (Workload.entry) of paused workloads

    def __len__(self) -> int:
        """Return how many workloads wait, without the paused ones."""
        return self._length

    def add(self, workload: Workload) -> None:
        entry, key = workload.entry, _key(workload)
        assert entry is not None
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(*key)
            insort(self._heads, entry)
        elif entry < shape.waiting[0]:
            self._drop_head(shape.waiting[0])
            insort(self._heads, entry)
        shape.waiting.add(entry)
        workload.shape = shape
        self._length += 1

    def remove(self, workload: Workload) -> None:
        entry, shape = workload.entry, workload.shape
        assert entry is not None
        if shape is None:
            self._aside.remove(entry)
            return
        workload.shape = None
        waiting = shape.waiting
        self._length -= 1
        if waiting[0] is not entry:
            waiting.remove(entry)
            return
        self._drop_head(entry)
        del waiting[0]
        if waiting:
            insort(self._heads, waiting[0])
        else:
            del self._shapes[shape.key]

    def _drop_head(self, entry: Entry) -> None:
        del self._heads[bisect_left(self._heads, entry)]

    def shape_at(self, place: int) -> Shape | None:
        """The shape whose first workload is at this place among all first ones, in queue order.

        None behind the last. A pass counts places up: when the first of a shape was admitted,
        the shape moves to the place of its next workload, which is the same or a later one.
        """
        if place >= len(self._heads):
            return None
        shape: Shape = self._heads[place][3].shape
        return shape

    def skip_hopeless(self, place: int) -> int:
        """The first place, from this one on, whose shape may still be admitted behind a head.

        Skips shapes without a project limit that ask for more Boxes of their only type than are
        free.
        """
        heads = self._heads
        for at in range(place, len(heads)):
            shape = heads[at][3].shape
            only = shape.ask.only
            if only is None or shape.ask.total <= only.free or shape.project is not None:
                return at
        return len(heads)

    # --- Paused workloads ----------------------------------------------------------------

    def add_aside(self, workload: Workload) -> None:
        """Add a workload that is paused."""
        assert workload.entry is not None
        self._aside.add(workload.entry)

    def set_aside(self, covered: Callable[[Workload], bool]) -> None:
        """Set aside all workloads that a new pause covers. Visits every waiting workload."""
        for shape in list(self._shapes.values()):
            gone, rest = _parted(shape.waiting, covered)
            if not gone:
                continue
            if not rest:
                del self._shapes[shape.key]
            else:
                shape.waiting = SortedList(rest)
            for entry in gone:
                entry[3].shape = None
            self._aside.update(gone)
            self._length -= len(gone)
        self._sort_heads()

    def take_back(self, free: Callable[[Workload], bool]) -> None:
        """Take back all workloads that are no longer paused. Visits every paused workload."""
        back, rest = _parted(self._aside, free)
        if not back:
            return
        self._aside = SortedList(rest)
        self._length += len(back)
        by_shape: dict[tuple[Ask, ProjectUse | None], list[Entry]] = {}
        for entry in back:
            by_shape.setdefault(_key(entry[3]), []).append(entry)
        for key, entries in by_shape.items():
            self._join(key, entries)
        self._sort_heads()

    def _join(self, key: tuple[Ask, ProjectUse | None], entries: Iterable[Entry]) -> None:
        """Put the entries into the shape; the heads must be sorted afterwards."""
        shape = self._shapes.get(key)
        if shape is None:
            shape = self._shapes[key] = Shape(*key)
        entries = list(entries)
        shape.waiting.update(entries)
        for entry in entries:
            entry[3].shape = shape

    def _sort_heads(self) -> None:
        self._heads = sorted(shape.waiting[0] for shape in self._shapes.values())

    def regroup(self, project: ProjectUse, limit: int | None) -> None:
        """Move a project's waiting workloads to other shapes: its limit was set or removed.

        Costs about 0.3 us for each waiting workload of the old shapes.
        """
        before = project if project.limit is not None else None
        after = project if limit is not None else None
        project.limit = limit
        for shape in [s for s in self._shapes.values() if s.project is before]:
            mine = [entry for entry in shape.waiting if entry[3].project is project]
            if not mine:
                continue
            if len(mine) == len(shape.waiting):
                del self._shapes[shape.key]
            else:
                rest = [entry for entry in shape.waiting if entry[3].project is not project]
                shape.waiting = SortedList(rest)
            self._join((shape.ask, after), mine)
        self._sort_heads()

    def in_order(self, limit: int) -> list[Workload]:
        """The first ``limit`` workloads in queue order, paused ones among them."""
        entries = [e for shape in self._shapes.values() for e in shape.waiting[:limit]]
        entries += self._aside[:limit]
        return [entry[3] for entry in sorted(entries)[:limit]]

    def position(self, workload: Workload) -> int:
        """The place in the queue; 1 is the next. Paused workloads before it do not count.

        Its cost grows with the number of shapes.
        """
        before = (int(s.waiting.bisect_left(workload.entry)) for s in self._shapes.values())
        return 1 + sum(before)

    @property
    def paused(self) -> int:
        """Return the number of paused workloads."""
        return len(self._aside)

    def take_apart(self, at_once: int) -> Iterator[None]:
        """See ``Scheduler.take_apart``."""
        self._heads.clear()
        while self._aside:
            del self._aside[-at_once:]
            yield
        while self._shapes:
            waiting = self._shapes.popitem()[1].waiting
            while waiting:
                del waiting[-at_once:]
                yield

    def check(self) -> None:
        assert self._length == sum(len(s.waiting) for s in self._shapes.values())
        assert self._heads == sorted(s.waiting[0] for s in self._shapes.values())
        for key, shape in self._shapes.items():
            limited = shape.head.project if shape.head.project.limit is not None else None
            assert shape.waiting and key == shape.key == (shape.head.ask, limited)
            assert all(e[3].entry is e and e[3].shape is shape for e in shape.waiting)
        assert all(e[3].entry is e and e[3].shape is None for e in self._aside)


def _parted(
    entries: Iterable[Entry], chosen: Callable[[Workload], bool]
) -> tuple[list[Entry], list[Entry]]:
    """Return the chosen entries, and the others."""
    found: list[Entry] = []
    rest: list[Entry] = []
    for entry in entries:
        (found if chosen(entry[3]) else rest).append(entry)
    return found, rest


def _key(workload: Workload) -> tuple[Ask, ProjectUse | None]:
    """Return the key of its shape."""
    project = workload.project
    return workload.ask, project if project.limit is not None else None
