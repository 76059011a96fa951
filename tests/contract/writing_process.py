"""A process that writes until it is killed; it prints what was answered, a line each.

``python -m tests.contract.writing_process URL FOLDER``
"""

import asyncio
import sys
from pathlib import Path

from boxsched import inbox
from boxsched.model import WorkloadId
from boxsched.store import open_store
from boxsched.store.contract import SHARD
from boxsched.store.values import Submitted
from tests.contract.world import NOW, Leader, build, event


async def write(url: str, folder: Path) -> None:
    store = open_store(url, folder)
    await store.open()
    leader = await Leader(store).lead(boxes=0)
    project = await leader.project(f"p{leader.epoch}")
    print("ready", flush=True)
    while True:
        outcomes = await store.submit([build(project, f"b{i}") for i in range(20)])
        done = [o for o in outcomes if isinstance(o, Submitted)]
        print("submitted", *(o.id for o in done), flush=True)
        # Also what an earlier life was told of and did not come to commit.
        entries = await store.inbox(SHARD, 1000)
        told = [inbox.read(entry.kind, entry.payload) for entry in entries]
        await leader.commit(
            inbox=tuple(entry.id for entry in entries),
            events=tuple(
                event("workload.registered", NOW, WorkloadId(command.workload))
                for command in told
                if isinstance(command, inbox.Submit)
            ),
        )
        print("committed", leader.batch, flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], Path(sys.argv[2])))
