"""An agent with a store that records what it receives."""

import asyncio
import functools
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from boxsched.model import BoxId, JobId, Kind, WorkloadId, job_id, job_workload
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.worker.agent import bubblewrap
from boxsched.worker.agent.agent import Agent
from boxsched.worker.agent.attempt_folder import AttemptFolder
from boxsched.worker.agent.bubblewrap import BoxOptions
from boxsched.worker.agent.outbox import Finding, LogChunk, Opening, Report
from boxsched.worker.agent.plan import Worksite, attempt_name, plan
from boxsched.worker.agent.preparing import make_attempt
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.isolation import Isolation

LIMIT_SECONDS = 60.0  # for what should take moments


@functools.cache
def at(folder: Path) -> int:
    """Open the folder until the process ends."""
    return safe_files.open_folder(str(folder))


def job(number: int) -> JobId:
    return job_id(WorkloadId(number), 0)


def assigned(number: int, *commands: str, **other: Any) -> Assignment:
    """Return the first job of workload ``number``, with the workload's number as lease token."""
    values: dict[str, Any] = {
        "job": job(number),
        "attempt": 1,
        "lease_token": number,
        "box": BoxId(1),
        "ordinal": 1,
        "stop": False,
        "timeout_seconds": 60.0,
        "name": "test",
        "commands": commands,
        "environment": {},
        "workload": WorkloadId(number),
        "number": number,
        "kind": Kind.BUILD,
        "project": "web",
        "branch": "main",
        "tag": None,
        "server": None,
        "commit": None,
        "repository": None,
        "show_commands": False,
    }
    return Assignment(**(values | other))


class StoreDouble:
    """Accepts reports and logs as the store does: what it has of a log is dropped."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.calls = 0
        self.chunks: dict[JobId, dict[int, bytes]] = defaultdict(dict)
        self.log_when_finished: dict[JobId, bytes] = {}
        self.found: list[Finding] = []
        self.commits: dict[WorkloadId, str] = {}
        self.openings: list[Opening] = []
        self.stale: set[tuple[JobId, int]] = set()
        self.away: Exception | None = None
        self.answers = asyncio.Event()  # cleared: reports are stored, and get no answer yet
        self.answers.set()
        self.problems: list[str | None] = []  # the reported problems
        self._news = asyncio.Condition()

    async def report(self, reports: Sequence[Report]) -> None:
        self._answer()
        for report in reports:
            self.reports.append(report)
            if isinstance(report, JobFinished):
                self.log_when_finished[JobId(report.job)] = self.log_of(JobId(report.job))
        await self._tell()
        await self.answers.wait()

    async def log(self, chunks: Sequence[LogChunk]) -> None:
        self._answer()
        for job, _, offset, data in chunks:
            assert 0 < len(data) <= 64 << 10
            end = sum(map(len, self.chunks[job].values()))
            if offset > end:
                self.chunks[job][offset] = data  # a gap, which ``log_of`` finds
            elif offset + len(data) > end:
                self.chunks[job][end] = data[end - offset :]
        await self._tell()

    async def problem(self, problem: str | None) -> None:
        self._answer()
        self.problems.append(problem)
        await self._tell()

    def _answer(self) -> None:
        self.calls += 1
        if self.away is not None:
            raise self.away

    async def fix(self, found: Finding) -> str | None:
        self._answer()
        job, token, commit = found
        self.found.append(found)
        if (job, token) in self.stale:
            return None
        fixed = self.commits.setdefault(job_workload(job), commit)
        await self._tell()
        return fixed

    async def open_session(self, opening: Opening) -> bool:
        self._answer()
        job, token = opening[:2]
        if (job, token) in self.stale:
            return False
        self.openings.append(opening)
        await self._tell()
        return True

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, told: Callable[[], object]) -> None:
        async with asyncio.timeout(LIMIT_SECONDS), self._news:
            await self._news.wait_for(told)

    def log_of(self, job: JobId) -> bytes:
        """Return the whole log; fail if it has a gap."""
        whole = b""
        for offset, data in sorted(self.chunks[job].items()):
            assert offset == len(whole)
            whole += data
        return whole

    def finished(self, number: int) -> JobFinished | None:
        for report in self.reports:
            if isinstance(report, JobFinished) and report.job == job(number):
                return report
        return None

    def started(self, number: int) -> list[JobStarted]:
        mine = [r for r in self.reports if isinstance(r, JobStarted)]
        return [r for r in mine if r.job == job(number)]


def isolated(folder: Path, **options: Any) -> Isolation:
    """How jobs are isolated that can read what is beside the agent's folder, such as gates."""
    readable = options.pop("readable", (folder.parent,))
    folder.mkdir(mode=0o700, exist_ok=True)  # what does not exist is not hidden
    return bubblewrap.isolation(BoxOptions(readable=readable, hidden=(folder,), **options))


class AgentHarness:
    """One worker's agent, its folder and its store."""

    def __init__(self, folder: Path, *, driver: str = "process", **options: Any) -> None:
        self.folder = folder
        self.options = {"driver": driver, "stop_grace": 10.0} | options
        if driver == "bubblewrap" and "isolation" not in options:
            self.options["isolation"] = isolated(folder)
        self.store = StoreDouble()
        self.agent = self._agent()

    def _agent(self) -> Agent:
        store = self.store
        told = {
            "report": store.report,
            "log": store.log,
            "report_problem": store.problem,
            "fix": store.fix,
            "open_session": store.open_session,
        }
        return Agent(folder=self.folder, **told, **self.options)

    async def restart(self) -> None:
        await self.agent.close()
        self.agent = self._agent()
        await self.agent.start()

    async def run(self, *commands: str, **other: Any) -> JobFinished:
        """Run one job to its end."""
        await self.agent.reconcile([assigned(1, *commands, **other)])
        return await self.end(1)

    async def run_also(self, number: int, *commands: str, **other: Any) -> JobFinished:
        """Run another job to its end, beside the running ones."""
        desired = self.agent._driver.__dict__["_desired"]
        await self.agent.reconcile([*desired.values(), assigned(number, *commands, **other)])
        return await self.end(number)

    async def end(self, number: int) -> JobFinished:
        await self.store.until(lambda: self.store.finished(number))
        finished = self.store.finished(number)
        assert finished is not None
        return finished

    async def said(self, number: int, text: bytes) -> None:
        await self.store.until(lambda: text in self.store.log_of(job(number)))

    def log(self, number: int = 1) -> bytes:
        return self.store.log_of(job(number))


async def eventually(what: Callable[[], object]) -> None:
    """Poll until it is true, for changes without a notification (another process, a file)."""
    async with asyncio.timeout(LIMIT_SECONDS):
        while not what():  # noqa: ASYNC110 -- nobody sets an event for it
            await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def pid_in(path: Path) -> int:
    return int(path.read_text())


def prepared(
    harness: AgentHarness, *commands: str, boot: str | None = None, cluster: str = ""
) -> Path:
    """Prepare the folder of an agent that died between record and start."""
    harness.folder.mkdir(parents=True, exist_ok=True)
    boot = boot or Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    where = Worksite(str(harness.folder), at(harness.folder), cluster, boot, 1 << 20, None, 10.0)
    wanted = assigned(1, *commands)
    record, script, _ = plan(wanted, where)
    folder = harness.folder / attempt_name(wanted)
    make_attempt(AttemptFolder(at(harness.folder), str(folder)), record, script).close()
    return folder
