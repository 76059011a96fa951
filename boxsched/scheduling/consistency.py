"""Check that the core's structures agree, which must hold between any two calls."""

from typing import TYPE_CHECKING

from boxsched.states import State

if TYPE_CHECKING:
    from boxsched.scheduling.scheduler import Scheduler


def check(scheduler: "Scheduler") -> None:
    """Raise AssertionError if two structures of the core disagree. Scans the whole core."""
    scheduler.register.check()
    scheduler.lanes.check()
    scheduler.queue.check()
    for pool in scheduler.pools.values():
        pool.check()
    assert sum(len(p.boxes) for p in scheduler.pools.values()) == len(scheduler.boxes)
    runs = [w for w in scheduler.workloads.values() if w.run is not None]
    busy = [b.id for w in runs if w.run for b in w.run.boxes if b is not None]
    assert len(busy) == len(set(busy)) == scheduler.usage.boxes
    assert set(busy) == {b.id for b in scheduler.boxes.values() if b.busy}
    queued = [w for w in scheduler.workloads.values() if w.state is State.QUEUED]
    assert len(scheduler.queue) + scheduler.queue.paused == len(queued)
    for w in queued:
        assert w.planned and (w.shape is None) == (scheduler.pauses.covering(w) is not None)
    groups = [g for w in runs if w.run for g in w.run.groups()]
    usage = scheduler.usage
    assert sorted(g.entry for g in groups if not g.late) == usage.running
    assert sorted(g.entry for g in groups if g.late) == usage.late
    assert all(entry[0] == entry[3].end for entry in usage.running)
    assert all(entry[0] == entry[3].last >= entry[3].end for entry in usage.late)
    for w in runs:
        assert w.run is not None and w.run.live == sum(g.jobs for g in w.run.groups()) > 0
        assert all(0 <= g.returning <= g.jobs for g in w.run.groups())
