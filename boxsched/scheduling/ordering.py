"""Phase 1, ordering: a lane serves its workloads strictly one after the other.

A workload leaves when its lane is free and its jobs are known.
"""

from collections.abc import Hashable, Iterator

from boxsched.model import WorkloadId
from boxsched.scheduling.workload import Lane, Workload
from boxsched.states import State


class Lanes:
    """The unfinished workloads of each lane, in the order of their registration."""

    def __init__(self) -> None:
        self._lanes: dict[Hashable, Lane] = {}
        # Workloads that became first of their lane, or have no lane, or whose jobs became known.
        self._may_leave: list[Workload] = []
        # By lane: builds that strategies canceled or stopped since one last passed or failed.
        self._superseded: dict[Hashable, int] = {}

    def append(self, workload: Workload, key: Hashable | None) -> None:
        if key is None:
            self._may_leave.append(workload)
            return
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = Lane(key)
        workload.lane = lane
        workload.ahead = lane.last
        if lane.last is None:
            lane.first = workload
            self._may_leave.append(workload)
        else:
            lane.last.behind = workload
        lane.last = workload

    def remove(self, workload: Workload) -> None:
        """Remove a finished workload; if it was first in its lane, the next one may leave."""
        lane = workload.lane
        if lane is None:
            return
        ahead, behind = workload.ahead, workload.behind
        if ahead is None:
            lane.first = behind
            if behind is None:
                del self._lanes[lane.key]
            else:
                self._may_leave.append(behind)
        else:
            ahead.behind = behind
        if behind is None:
            lane.last = ahead
        else:
            behind.ahead = ahead
        workload.lane = workload.ahead = workload.behind = None

    def members(self, key: Hashable) -> list[Workload]:
        lane = self._lanes.get(key)
        return list(_from(lane.first)) if lane else []

    def leaving(self) -> list[Workload]:
        """Return the workloads that may leave ordering now, in the order in which they became
        first or their jobs became known; each is returned once."""
        if not self._may_leave:
            return []
        candidates, self._may_leave = self._may_leave, []
        return [
            w
            for w in dict.fromkeys(candidates)
            if w.state is State.REGISTERED and w.ahead is None and w.planned
        ]

    def planned(self, workload: Workload) -> None:
        """Note that the workload's jobs are known now."""
        self._may_leave.append(workload)

    def superseded(self, key: Hashable) -> int:
        """Return how many builds of the lane strategies canceled or stopped since one last passed
        or failed. Lanes are stored while this is not 0, also empty ones.
        """
        return self._superseded.get(key, 0)

    def count_superseded(self, key: Hashable, count: int) -> None:
        if count:
            self._superseded[key] = count
        else:
            self._superseded.pop(key, None)

    def take_apart(self, at_once: int) -> Iterator[None]:
        """See ``Scheduler.take_apart``."""
        self._may_leave.clear()
        self._superseded.clear()
        while self._lanes:
            for _ in range(min(at_once, len(self._lanes))):
                lane = self._lanes.popitem()[1]
                lane.first = lane.last = None
            yield

    def check(self) -> None:
        assert all(count > 0 for count in self._superseded.values())
        for key, lane in self._lanes.items():
            members = list(_from(lane.first))
            assert members and members[-1] is lane.last and lane.key == key
            assert all(w.lane is lane for w in members)
            assert [w.id for w in members] == sorted(w.id for w in members)
            assert all(w.state is State.REGISTERED for w in members[1:])
            assert members[0].planned or members[0].state is State.REGISTERED
            assert sum(w.spared for w in members) <= 1
            before: Workload | None = None
            for w in members:
                assert w.ahead is before
                before = w


def ahead_of(workload: Workload) -> tuple[WorkloadId, ...]:
    """Return the unfinished workloads before it in its lane, in the order of registration."""
    ids = []
    ahead = workload.ahead
    while ahead is not None:
        ids.append(ahead.id)
        ahead = ahead.ahead
    return tuple(reversed(ids))


def _from(workload: Workload | None) -> Iterator[Workload]:
    while workload is not None:
        yield workload
        workload = workload.behind
