"""Measure the core alone: the time of an event with many waiting workloads, and their memory.

The workloads have one job and 50 shapes, each in a separate lane, on 64 Boxes that are always busy.
A round ends running workloads (which admits the next ones) and registers as many new ones, so the
number of waiting workloads stays the same. The time of an event is measured with one event in each
instant. The rate is also measured with 32 of each in one instant, as in an engine under load. Each
number of waiting workloads is measured in a separate process.
"""

import asyncio
import gc
import json
import os
import sys
import time
from collections import deque
from collections.abc import Sequence
from statistics import median

from boxsched.bench.figures import machine, resident_mib, versions
from boxsched.model import BoxId, Kind, ProjectId, WorkloadId
from boxsched.scheduling import JobAsk, QueueRules, Scheduler
from boxsched.scheduling.interface import Admitted, BoxAdded, Event, JobsEnded, Submit
from boxsched.states import Result

BOXES = 64
SHAPES = 50
RUNS = 3
WORKLOADS_A_RUN = 10_016
TURN = 32
assert WORKLOADS_A_RUN % TURN == 0
EVENTS_A_WORKLOAD = 2  # registered and ended; they cause the other events
# below this, the growth of the process itself disturbs the measurement
MIN_WAITING_TO_WEIGH = 10_000
_MIB = 1024 * 1024


class Belt:
    """A scheduler that is always full: admitted workloads are ended in order."""

    def __init__(self) -> None:
        self.core = Scheduler(QueueRules(), box_types=("default",))
        # Expected durations are powers of 2^(1/4), as in the service.
        self.asks = [(JobAsk("default", 2 ** (n / 4), 3600.0),) for n in range(SHAPES)]
        self.running: deque[WorkloadId] = deque()
        self.next_id = 1
        self.now = 0.0
        for box in range(BOXES):
            self.core.decide([BoxAdded(BoxId(box + 1), "default")], self.now)

    def submit(self) -> None:
        self._decide([self._submission()])

    def end(self) -> None:
        self._decide([self._ending()])

    def turn(self, count: int) -> None:
        """Run one instant in which ``count`` workloads end and as many are registered."""
        events: list[Event] = [self._ending() for _ in range(count)]
        events += [self._submission() for _ in range(count)]
        self._decide(events)

    def _ending(self) -> JobsEnded:
        return JobsEnded(self.running.popleft(), (0,), Result.PASSED)

    def _submission(self) -> Submit:
        number = self.next_id
        self.next_id += 1
        branch = f"feature/{number}"
        return Submit(
            id=WorkloadId(number),
            kind=Kind.BUILD,
            project=ProjectId(1),
            branch=branch,
            lane=(1, branch),
            priority=50,
            created_at=self.now,
            jobs=self.asks[number * 7 % SHAPES],
        )

    def _decide(self, events: Sequence[Event]) -> None:
        self.now += 0.001
        for decision in self.core.decide(events, self.now):
            if type(decision) is Admitted:
                self.running.append(decision.workload)


def measure(waiting: int) -> dict[str, float | int | None]:
    """Measure in this process, which should do nothing else."""
    gc.set_threshold(10_000, 5, 10_000)  # as in the service
    belt = Belt()
    before = _resident()
    for _ in range(waiting + BOXES):
        belt.submit()
    weight = _resident() - before
    single = median(_singly(belt) for _ in range(RUNS))
    turns = median(_by_turns(belt) for _ in range(RUNS))
    registered = belt.next_id - 1
    assert registered == waiting + BOXES + 2 * RUNS * WORKLOADS_A_RUN
    assert len(belt.running) == BOXES
    return {
        "waiting": waiting,
        "workloads_per_second": round(WORKLOADS_A_RUN / turns),
        "workloads_per_second_one_an_instant": round(WORKLOADS_A_RUN / single),
        "microseconds_per_event": round(
            single / WORKLOADS_A_RUN / EVENTS_A_WORKLOAD * 1_000_000, 2
        ),
        "bytes_per_waiting_workload": (
            round(weight * _MIB / waiting) if waiting >= MIN_WAITING_TO_WEIGH else None
        ),
    }


def _singly(belt: Belt) -> float:
    # Processor time, not elapsed time, because other processes may run at the same time.
    began = time.process_time()
    for _ in range(WORKLOADS_A_RUN):
        belt.end()
        belt.submit()
    return time.process_time() - began


def _by_turns(belt: Belt) -> float:
    began = time.process_time()
    for _ in range(WORKLOADS_A_RUN // TURN):
        belt.turn(TURN)
    return time.process_time() - began


def _resident() -> float:
    gc.collect()
    # Without /proc, memory cannot be measured.
    return resident_mib(os.getpid()) or 0.0


async def report(waiting: Sequence[int]) -> dict[str, object]:
    """Return all figures; each number of waiting workloads is measured in a child process."""
    rows = [await _in_child(count) for count in waiting]
    first = rows[0]["microseconds_per_event"]
    for row in rows:
        row["cost_ratio"] = round(row["microseconds_per_event"] / first, 2)
    return {
        "core": rows,
        "boxes": BOXES,
        "shapes": SHAPES,
        "machine": machine(),
        "versions": versions(),
    }


async def _in_child(waiting: int) -> dict[str, float]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "boxsched.bench.core", str(waiting), stdout=asyncio.subprocess.PIPE
    )
    try:
        said, _ = await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode:
        raise ChildProcessError(f"measuring the core ended with status {child.returncode}")
    figures: dict[str, float] = json.loads(said)
    return figures


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
