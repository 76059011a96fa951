"""Box-seconds: how long Boxes were there, and how long they were busy."""

from collections.abc import Mapping, Sequence


class Meter:
    """Counts from the first event to the last mark (the last workload that finished)."""

    def __init__(self, boxes: Mapping[str, int]) -> None:
        self._wanted = dict(boxes)
        self._busy = dict.fromkeys(boxes, 0)
        self._all_busy = 0  # sums over the types, kept so that passing time costs the same
        self._in_being = sum(boxes.values())
        self._began = self._now = self._marked = 0.0
        self._busy_seconds = self._being_seconds = 0.0
        self._marked_busy_seconds = self._marked_being_seconds = 0.0

    def begin(self, now: float) -> None:
        self._began = self._now = self._marked = now

    def pass_time(self, now: float) -> None:
        passed = now - self._now
        self._now = now
        self._busy_seconds += passed * self._all_busy
        self._being_seconds += passed * self._in_being

    def taken(self, boxes: Sequence[tuple[str, int]]) -> None:
        for box_type, count in boxes:
            self._change(box_type, self._wanted[box_type], self._busy[box_type] + count)

    def released(self, boxes: Sequence[tuple[str, int]]) -> None:
        for box_type, count in boxes:
            self._change(box_type, self._wanted[box_type], self._busy[box_type] - count)

    def wanted(self, box_type: str, count: int) -> None:
        self._change(box_type, count, self._busy[box_type])

    def _change(self, box_type: str, wanted: int, busy: int) -> None:
        """Note another number of Boxes: the wanted ones, or the busy ones if these are more."""
        before = max(self._wanted[box_type], self._busy[box_type])
        self._in_being += max(wanted, busy) - before
        self._all_busy += busy - self._busy[box_type]
        self._wanted[box_type] = wanted
        self._busy[box_type] = busy

    def mark(self) -> None:
        """Note that a workload has finished now: the figures cover the time up to the last one."""
        self._marked = self._now
        self._marked_busy_seconds = self._busy_seconds
        self._marked_being_seconds = self._being_seconds

    @property
    def makespan(self) -> float:
        return self._marked - self._began

    @property
    def utilization(self) -> float:
        if not self._marked_being_seconds:
            return 0.0
        return self._marked_busy_seconds / self._marked_being_seconds
