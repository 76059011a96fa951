"""Loads a shard with several pages of waiting workloads beside other work. The cost is printed but
not checked, because the machine may be shared. BOXSCHED_TEST_LOAD=100000 loads a large shard."""

import asyncio
import os
import time

from boxsched.protocol.shards import PAGE_WORKLOADS, SHARD, LoadedWorkload
from boxsched.store.records import Submitted
from tests.contract.store_data import NOW, Leader, Loaded, build, finished


class LoopMeter:
    """The longest time the event loop worked without serving others, in CPU time of its thread."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.turns = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now
            self.turns += 1

    def stop(self) -> float:
        self._task.cancel()
        return self.longest


async def fill(leader: Leader, unfinished: int, finished_: int) -> list[Submitted]:
    project = await leader.project()
    live: list[Submitted] = []
    left = [(finished_, True), (unfinished, False)]
    for total, ends in left:
        for start in range(0, total, 1000):
            count = min(1000, total - start)
            group = [build(project, f"{ends}{start + i}") for i in range(count)]
            done = [o for o in await leader.store.submit(group) if isinstance(o, Submitted)]
            entries = tuple(each.id for each in await leader.store.inbox(SHARD, 5000))
            over = tuple(finished(o.id, NOW) for o in done) if ends else ()
            await leader.commit(inbox=entries, ended=over)
            live += [] if ends else done
    return live


class Counting(Loaded):
    def add(self, workloads: list[LoadedWorkload]) -> None:
        assert len(workloads) <= PAGE_WORKLOADS
        self.pages += [w.id for w in workloads]


async def test_a_shard_of_many_pages_is_loaded_whole_and_lets_other_tasks_run(
    leader: Leader,
) -> None:
    waiting = int(os.environ.get("BOXSCHED_TEST_LOAD", "4000"))
    live = await fill(leader, waiting, waiting // 2)
    pulse, began, cpu = LoopMeter(), time.perf_counter(), time.process_time()
    found = Counting()
    await leader.store.load(SHARD, found)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    longest = pulse.stop()
    print(f"{took:.2f} s, {cpu:.2f} s of CPU; {longest * 1e3:.0f} ms at most in one piece")
    assert found.pages == [o.id for o in live]
    assert pulse.turns >= waiting // PAGE_WORKLOADS
