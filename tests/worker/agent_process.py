"""An agent in its own process, which tests kill: arguments FOLDER SPOOL SCRIPT.

It records each report to its store as soon as the report is durable.
"""

import asyncio
import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from boxsched.protocol.inbox import JobStarted
from boxsched.worker.agent.agent import Agent
from boxsched.worker.agent.outbox import Finding, LogChunk, Opening, Report
from tests.worker.harness import assigned


async def run_agent(folder: Path, spool: Path, script: str) -> None:
    with spool.open("a") as file:

        def write(*entry: object) -> None:
            file.write(json.dumps(entry) + "\n")
            file.flush()

        async def report(reports: Sequence[Report]) -> None:
            for said in reports:
                write("started" if isinstance(said, JobStarted) else "finished", said.job)

        async def log(chunks: Sequence[LogChunk]) -> None:
            for job, attempt, offset, data in chunks:
                write("log", job, attempt, offset, base64.b64encode(data).decode())

        async def report_problem(problem: str | None) -> None:
            write("problem", problem)

        async def fix(found: Finding) -> str | None:
            return found[2]

        async def open_session(opening: Opening) -> bool:
            return True

        told = {
            "report": report,
            "log": log,
            "report_problem": report_problem,
            "fix": fix,
            "open_session": open_session,
        }
        agent = Agent(folder=folder, driver="process", **told)
        await agent.start()
        await agent.reconcile([assigned(1, script)])
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(run_agent(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
