"""A process that writes until it is killed; it prints each answer on its own line.

``python -m tests.contract.writing_process URL FOLDER``
"""

import asyncio
import itertools
import sys
from pathlib import Path

from boxsched.store import open_store
from boxsched.store.records import Submitted
from tests.contract.store_data import Leader, build


async def write(url: str, folder: Path) -> None:
    store = open_store(url, folder)
    await store.open()
    leader = await Leader(store).lead(boxes=0)
    project = await leader.project(f"p{leader.epoch}")
    print("ready", flush=True)
    branches = (f"b{number}" for number in itertools.count())
    while True:
        group = [build(project, branch) for branch in itertools.islice(branches, 20)]
        outcomes = await store.submit(group)
        done = [o for o in outcomes if isinstance(o, Submitted)]
        print("submitted", *(o.id for o in done), flush=True)
        await leader.queue_told()  # also what an earlier run did not commit
        print("committed", leader.batch, flush=True)


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], Path(sys.argv[2])))
