"""Phase 3, assignment: the Boxes of one type, which of them are free, and which one a job gets.

The number of wanted Boxes can fall below the number of busy ones in two ways. A specific Box is
retired (``retire``: its worker leaves); or fewer Boxes are wanted, and those that become free first
are removed (``want``: the simulator). ``surplus`` counts the latter; while it is not zero, no Box
of the type is free.

A Box that is ``away`` (its worker is silent) exists and is wanted, but is never free.
"""

from collections import OrderedDict
from collections.abc import Hashable
from typing import TYPE_CHECKING

import attrs

from boxsched.model import BoxId, ProjectId

if TYPE_CHECKING:
    from boxsched.scheduling.workload import RunningGroup

FreeBoxes = OrderedDict[BoxId, "Box"]  # longest free first


@attrs.define(eq=False)
class Box:
    id: BoxId
    pool: "BoxPool"
    busy: bool = False
    retired: bool = False
    away: bool = False
    group: "RunningGroup | None" = None  # the running jobs that it belongs to, while it is busy
    last_project: ProjectId | None = None
    last_branch: str | None = None
    # The keys under which it is found as a warm Box while it is free.
    warm_keys: tuple[Hashable, ...] = ()

    def ran(self, project: ProjectId | None, branch: str | None) -> None:
        self.last_project, self.last_branch = project, branch
        if project is None:
            self.warm_keys = ()
        else:
            self.warm_keys = (project,) if branch is None else (project, (project, branch))


class BoxPool:
    """All Boxes of one type."""

    __slots__ = (
        "_warm",
        "asks",
        "away",
        "box_type",
        "boxes",
        "free",
        "free_boxes",
        "surplus",
        "wanted",
    )

    def __init__(self, box_type: str) -> None:
        self.box_type = box_type
        self.boxes: dict[BoxId, Box] = {}
        self.free_boxes: FreeBoxes = OrderedDict()
        self.free = 0  # len(free_boxes), read in the innermost loop
        self.wanted = 0  # Boxes that remain when their jobs end
        self.away = 0  # free and busy Boxes of silent workers
        self.asks = 0  # different requests of unfinished workloads for this type
        self.surplus = 0  # this many busy Boxes are removed, those that become free first
        # Free Boxes by what they ran last: by (project, branch), and by project.
        self._warm: dict[Hashable, FreeBoxes] = {}

    def take_apart(self) -> None:
        self.boxes.clear()
        self.free_boxes.clear()
        self._warm.clear()

    def add(self, box: Box) -> None:
        self.boxes[box.id] = box
        self.wanted += 1
        self._set_free(box)

    def retire(self, box: Box) -> bool:
        """Remove the Box: at once (True), or when its job ends (False)."""
        if box.retired:
            return False
        box.retired = True
        self.wanted -= 1
        if box.busy:
            return False
        self._remove(box)
        return True

    def lose_sight(self, box: Box) -> None:
        """Note that the Box's worker fell silent: the Box is no longer free."""
        if not box.away:
            box.away = True
            self.away += 1
            if not box.busy:
                self._set_busy(box)
                box.busy = False

    def see_again(self, box: Box) -> None:
        if box.away:
            box.away = False
            self.away -= 1
            if not box.busy:
                self._set_free(box)

    def keep(self, box: Box) -> None:
        """Take back ``retire``: the busy Box stays when its job ends."""
        assert box.busy and box.retired
        box.retired = False
        self.wanted += 1

    def want(self, count: int, next_id: int) -> tuple[list[Box], list[BoxId]]:
        """Set how many Boxes are wanted. Returns the Boxes that were added and the ids of those
        that were removed.
        """
        came: list[Box] = []
        went: list[BoxId] = []
        while self.wanted > count:
            self.wanted -= 1
            if self.free:
                box = next(reversed(self.free_boxes.values()))
                self._remove(box)
                went.append(box.id)
            else:
                self.surplus += 1
        while self.wanted < count:
            if self.surplus:
                self.surplus -= 1
                self.wanted += 1
            else:
                box = Box(BoxId(next_id + len(came)), self)
                self.add(box)
                came.append(box)
        return came, went

    def take(self, project: ProjectId, branch: str | None) -> tuple[Box, bool]:
        """Take a free Box; return it and whether it is warm.

        The order is that of docs/scheduling.md, "Assignment": a Box that last ran this project and
        branch; a Box that last ran this project; the Box that has been free the longest.
        """
        warm = None
        if branch is not None:
            warm = self._warm.get((project, branch))
        if warm is None:
            warm = self._warm.get(project)
        box = next(iter((self.free_boxes if warm is None else warm).values()))
        self._set_busy(box)
        return box, warm is not None

    def occupy(self, box: Box) -> None:
        """Mark this free Box as busy, from the store or for a lost job."""
        self._set_busy(box)

    def first_free(self) -> Box:
        """Return the Box that has been free longest."""
        return next(iter(self.free_boxes.values()))

    def give_back(self, box: Box, project: ProjectId, branch: str | None) -> bool:
        """Note that the Box's job has ended. Return False if the Box is free again, True if it was
        removed.
        """
        box.busy = False
        box.group = None
        if box.retired:
            self._drop(box)
            return True
        if self.surplus:
            self.surplus -= 1
            self._drop(box)
            return True
        if box.last_project != project or box.last_branch != branch:
            box.ran(project, branch)
        if not box.away:
            self._set_free(box)
        return False

    def _set_free(self, box: Box) -> None:
        self.free_boxes[box.id] = box
        self.free += 1
        for key in box.warm_keys:
            warm = self._warm.get(key)
            if warm is None:
                warm = self._warm[key] = OrderedDict()
            warm[box.id] = box

    def _set_busy(self, box: Box) -> None:
        box.busy = True
        del self.free_boxes[box.id]
        self.free -= 1
        for key in box.warm_keys:
            warm = self._warm[key]
            del warm[box.id]
            if not warm:
                del self._warm[key]

    def _remove(self, box: Box) -> None:
        if not box.away:
            self._set_busy(box)
            box.busy = False
        self._drop(box)

    def _drop(self, box: Box) -> None:
        del self.boxes[box.id]
        self.away -= box.away

    def check(self) -> None:
        assert self.free == len(self.free_boxes)
        assert all(not (b.busy or b.retired or b.away) for b in self.free_boxes.values())
        assert self.away == sum(b.away for b in self.boxes.values())
        stay = sum(not b.retired for b in self.boxes.values())
        assert self.wanted == stay - self.surplus, (self.wanted, stay, self.surplus)
        assert not (self.surplus and self.free)
        assert self.free == sum(not (b.busy or b.away) for b in self.boxes.values())
        warm = {id_ for boxes in self._warm.values() for id_ in boxes}
        assert warm == {b.id for b in self.free_boxes.values() if b.last_project is not None}
