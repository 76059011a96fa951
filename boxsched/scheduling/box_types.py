"""All Boxes by type: add and remove them, and apply that their workers fall silent or return."""

from collections.abc import Iterable, Sequence

from boxsched.model import BoxId
from boxsched.scheduling.boxes import Box, BoxPool
from boxsched.scheduling.interface import (
    BoxAdded,
    BoxesAway,
    BoxesBack,
    BoxesWanted,
    BoxFreed,
    BoxRetired,
    Decision,
)


class Fleet:
    """One organization's Boxes; each public method applies one event."""

    def __init__(self, box_types: Sequence[str]) -> None:
        self.pools: dict[str, BoxPool] = {}
        self.boxes: dict[BoxId, Box] = {}
        self._next_box = 1
        for box_type in box_types:
            self.pool(box_type)

    def take_apart(self) -> None:
        """See ``Scheduler.take_apart``. Boxes and their pools refer to each other."""
        for pool in self.pools.values():
            pool.take_apart()
        self.pools.clear()
        self.boxes.clear()

    def pool(self, box_type: str) -> BoxPool:
        pool = self.pools.get(box_type)
        if pool is None:
            pool = self.pools[box_type] = BoxPool(box_type)
        return pool

    def added(self, event: BoxAdded, now: float, decisions: list[Decision]) -> None:
        known = self.boxes.get(event.box)
        if known is not None:
            if known.retired:  # its worker has returned with it before its job has ended
                known.pool.keep(known)
                assert known.group is not None
                known.group.returning += 1
            return
        pool = self.pool(event.box_type)
        box = Box(event.box, pool)
        box.ran(event.last_project, event.last_branch)
        self.boxes[box.id] = box
        pool.add(box)

    def retired(self, event: BoxRetired, now: float, decisions: list[Decision]) -> None:
        box = self.boxes.get(event.box)
        if box is None or box.retired:
            return
        if box.pool.retire(box):
            del self.boxes[box.id]
            decisions.append(BoxFreed(box.id, gone=True))
        else:
            assert box.group is not None
            box.group.returning -= 1

    def away(self, event: BoxesAway, now: float, decisions: list[Decision]) -> None:
        for box in self._known(event.boxes):
            box.pool.lose_sight(box)

    def back(self, event: BoxesBack, now: float, decisions: list[Decision]) -> None:
        for box in self._known(event.boxes):
            box.pool.see_again(box)

    def wanted(self, event: BoxesWanted, now: float, decisions: list[Decision]) -> None:
        came, went = self.pool(event.box_type).want(event.count, self._next_box)
        self._next_box += len(came)
        for box in came:
            self.boxes[box.id] = box
        for gone in went:
            del self.boxes[gone]
            decisions.append(BoxFreed(gone, gone=True))

    def _known(self, boxes: Iterable[BoxId]) -> list[Box]:
        return [self.boxes[box] for box in boxes if box in self.boxes]
