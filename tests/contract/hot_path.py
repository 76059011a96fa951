"""Measures what a one-job build costs in the store, from submission to finish, beside a busy event
loop.

Run by hand: ``python -m tests.contract.hot_path [--group 30] [--seconds 5] [--idle]``. It prints
medians: CPU microseconds of the store's threads per build for each call, and the calls' durations.
Where the store has no thread (PostgreSQL), the CPU is the calling thread's. ``--idle`` measures
without the busy event loop.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from boxsched.model import JobId, WorkloadId, job_id
from boxsched.protocol import inbox
from boxsched.protocol.batches import BoxChange, Event, JobChange, WorkloadChange
from boxsched.protocol.shards import SHARD, Project
from boxsched.states import JobState, Result, State
from boxsched.store import is_postgres, open_store
from boxsched.store.records import Submitted
from boxsched.store.store import Store
from tests.contract.store_data import NOW, Leader, build, event, key

T = TypeVar("T")


class Meter:
    """CPU time of the process without the calling thread, and elapsed time, by call."""

    def __init__(self, in_loop: bool = False) -> None:
        self.in_loop = in_loop  # the calling thread does the work
        self.cpu: dict[str, list[float]] = defaultdict(list)
        self.passed: dict[str, list[float]] = defaultdict(list)

    async def of(self, name: str, call: Awaitable[T]) -> T:
        process, calling, began = time.process_time(), time.thread_time(), time.perf_counter()
        answer = await call
        calling = 0.0 if self.in_loop else time.thread_time() - calling
        self.cpu[name].append(time.process_time() - process - calling)
        self.passed[name].append(time.perf_counter() - began)
        return answer


def _shown(meter: Meter, group: int) -> None:
    """Show medians: on a shared machine a mean mostly shows other processes."""
    total = 0.0
    for name, cpu in meter.cpu.items():
        a_build = statistics.median(cpu) / group * 1e6
        calls = 2 if name == "inbox" else 1
        total += calls * a_build
        passed = statistics.median(meter.passed[name]) * 1e3
        print(f"{name:20}{a_build:6.1f} us of CPU a build;{passed:7.2f} ms a call")
    print(f"{'all':20}{total:6.1f} us of CPU a build, in groups of {group}")


async def _keep_busy() -> None:
    """Run short pieces of Python one after the other, like a service."""
    while True:
        sum(i * i for i in range(2_000))
        await asyncio.sleep(0)


def _changes(done: Submitted, at: float) -> tuple[WorkloadChange, WorkloadChange]:
    return (
        WorkloadChange(done.id, State.RUNNING, None, None, at, at, None),
        WorkloadChange(done.id, State.FINISHED, Result.PASSED, None, at, at, at + 1),
    )


async def _cycle(leader: Leader, project: Project, meter: Meter, group: int, number: int) -> None:
    store, now = leader.store, NOW + number
    new = [
        build(project, f"b{number}-{i}", created_at=now, idempotency=key(f"{number}-{i}"))
        for i in range(group)
    ]
    done = [o for o in await meter.of("submit", store.submit(new)) if isinstance(o, Submitted)]
    assert len(done) == group
    entries = await meter.of("inbox", store.inbox(SHARD, 1000))
    changes = [_changes(each, now) for each in done]
    jobs = [job_id(each.id, 0) for each in done]
    token = leader.batch + 1
    batch = leader.next_batch(
        inbox=tuple(entry.id for entry in entries),
        workloads=tuple(running for running, _ in changes),
        jobs=tuple(
            JobChange(job, JobState.ASSIGNED, None, box.id, 1, token, None, None, None, None)
            for job, box in zip(jobs, leader.boxes, strict=False)
        ),
        taken=tuple(
            BoxChange(box.id, job, None, None, now)
            for job, box in zip(jobs, leader.boxes, strict=False)
        ),
        events=tuple(
            _event(kind, now, each.id, job)
            for each, job in zip(done, jobs, strict=True)
            for kind in ("workload.registered", "workload.queued", "workload.started")
        ),
    )
    await meter.of("commit of start", store.commit(batch))
    leader.batch += 1
    assigned = await meter.of("assignments", leader.assignments())
    assert len(assigned) == group
    reports = tuple(
        report
        for each in assigned
        for report in (
            inbox.JobStarted(each.job, each.lease_token, now),
            inbox.JobFinished(each.job, each.lease_token, now + 1, Result.PASSED, 0, None),
        )
    )
    await meter.of("ask", store.ask(SHARD, [inbox.written(inbox.Reports(leader.worker, reports))]))
    entries = await meter.of("inbox", store.inbox(SHARD, 1000))
    batch = leader.next_batch(
        inbox=tuple(entry.id for entry in entries),
        ended=tuple(ended for _, ended in changes),
        jobs=tuple(
            JobChange(
                job, JobState.FINISHED, Result.PASSED, box.id, 1, token, now, now + 1, 0, None
            )
            for job, box in zip(jobs, leader.boxes, strict=False)
        ),
        freed=tuple(
            BoxChange(box.id, None, project.id, "main", now) for box in leader.boxes[:group]
        ),
        events=tuple(
            _event(kind, now, each.id, job)
            for each, job in zip(done, jobs, strict=True)
            for kind in ("job.started", "job.finished", "workload.finished", "boxes.changed")
        ),
    )
    await meter.of("commit of finish", store.commit(batch))
    leader.batch += 1


def _event(kind: str, at: float, workload: WorkloadId, job: JobId) -> Event:
    return event(kind, at, workload, job, project="web", number=12, kind="build", **_MORE)


_MORE = {"branch": "main", "state": "registered", "boxes": 1, "author": "Ada", "message": "Mend it"}


async def _measure(store: Store, group: int, seconds: float, idle: bool, in_loop: bool) -> None:
    await store.open()
    leader = await Leader(store).lead(boxes=group)
    project = await leader.project()
    for number in range(20):
        await _cycle(leader, project, Meter(), group, number)
    busy = None if idle else asyncio.create_task(_keep_busy())
    meter, number = Meter(in_loop), 20
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        await _cycle(leader, project, meter, group, number)
        number += 1
    if busy is not None:
        busy.cancel()
    await store.close()
    _shown(meter, group)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--group", type=int, default=30)
    options.add_argument("--seconds", type=float, default=5.0)
    options.add_argument("--idle", action="store_true", help="nothing else on the event loop")
    options.add_argument("--database", metavar="URL", help="an empty one [default: SQLite]")
    asked = options.parse_args()
    sys.setswitchinterval(0.0005)
    with tempfile.TemporaryDirectory() as folder:
        url = asked.database or f"sqlite:///{folder}/boxsched.sqlite"
        store = open_store(url, Path(folder))
        asyncio.run(_measure(store, asked.group, asked.seconds, asked.idle, is_postgres(url)))


if __name__ == "__main__":
    main()
