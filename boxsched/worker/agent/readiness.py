"""Whether this worker can begin jobs. If it cannot, it tells its nodes, which then assign none.

When a job cannot begin because of the worker, the worker reports the problem and waits. Then it
checks whether it could begin a job now. The problem is over when a check finds nothing wrong. Each
problem lasts at least twice as long as the one before, until a job begins. Otherwise a clone that
is too large for the disk would be tried again at once: it fills the disk, fails, and frees it.
"""

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from boxsched.backoff import Backoff
from boxsched.worker.agent import bubblewrap
from boxsched.worker.agent.repository import JOB_PATH, program
from boxsched.worker.supervisor import safe_files, trouble
from boxsched.worker.supervisor.folder import DISK_FULL
from boxsched.worker.supervisor.isolation import Isolation

MACHINE_LOOK_SECONDS = 5.0
LONGEST_EPISODE_SECONDS = 300.0
PROBE_BYTES = 64 << 10
PROGRAM_SECONDS = 10.0
PROBE = ".probe"
BASH, GIT = program("bash"), program("git")

_log = logging.getLogger(__name__)


class Readiness:
    """``folder``: the agent's. ``publish`` returns when its argument is durable."""

    def __init__(
        self,
        folder: Path,
        publish: Callable[[str | None], Awaitable[None]],
        isolation: Isolation | None = None,
    ) -> None:
        self._folder = folder
        self._publish = publish
        self._isolation = isolation
        self._programs = {BASH}  # the programs that jobs need; git is added when a job needs it
        self._episodes = Backoff(MACHINE_LOOK_SECONDS, LONGEST_EPISODE_SECONDS)
        self._until = 0.0
        self._suspected = asyncio.Event()
        self.problem: str | None = None

    def found(self, problem: str) -> None:
        """Note that a job could not begin because of this problem."""
        if self.problem is None:
            self._until = time.monotonic() + self._episodes.next()
            _log.warning("no jobs can begin here until this problem is solved: %s", problem)
        self.problem = problem
        if problem == trouble.missing(GIT):
            self._programs.add(GIT)
        self._suspected.set()

    def suspected(self) -> None:
        """Request a check soon: a job had a problem that may prevent others from beginning."""
        self._suspected.set()

    def begun(self) -> None:
        """Note that a job began: the next problem is a new one and starts with a short wait."""
        self._episodes.reset()

    async def publish(self) -> None:
        """Tell the nodes whether jobs can begin here; return when they have stored it."""
        await self._publish(self.problem)

    async def run(self) -> None:
        """Check after each suspicion, and repeatedly while there is a problem. Never returns."""
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            await self._look()

    async def _look(self) -> None:
        if self.problem is None:
            problem = await self._check()
            if problem is None:
                return
            self.found(problem)
        await self.publish()
        while self.problem is not None:
            await asyncio.sleep(max(MACHINE_LOOK_SECONDS, self._until - time.monotonic()))
            self.problem = await self._check()
        self._suspected.clear()
        _log.info("jobs can begin here again")
        await self.publish()

    async def _check(self) -> str | None:
        folder, programs = str(self._folder), sorted(self._programs)
        problem = await asyncio.to_thread(check, folder, programs)
        if problem is None and self._isolation is not None:
            return await asyncio.to_thread(bubblewrap.probe, self._isolation)
        return problem


def check(folder: str, programs: Collection[str]) -> str | None:
    """Try what a job needs to begin; return the problem or None. Blocking."""
    try:
        if trouble.has_no_room(folder):
            return DISK_FULL
        _write_probe(folder)
    except OSError as error:
        return trouble.described(error, "cannot prepare jobs")
    for path in programs:
        if problem := trouble.missing(path):
            return problem
        try:
            subprocess.run(
                [path, "--version"],
                env={"PATH": JOB_PATH},  # every job can read it
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PROGRAM_SECONDS,
                check=False,
            )
        except OSError as error:
            return trouble.described(error, f"cannot start {os.path.basename(path)}")
        except subprocess.TimeoutExpired:
            return f"{os.path.basename(path)} does not answer"
    return None


def _write_probe(folder: str) -> None:
    """Write a folder with a file, as for an attempt, and remove it. Raises OSError.

    Removes what a job may have put there; follows no link.
    """
    at = safe_files.open_folder(folder)
    try:
        safe_files.remove_tree(at, PROBE)
        os.mkdir(PROBE, 0o700, dir_fd=at)
        try:
            probe = safe_files.open_folder(PROBE, at)
            try:
                safe_files.write_file(probe, "file", bytes(PROBE_BYTES), durable=True)
            finally:
                os.close(probe)
        finally:
            safe_files.remove_tree(at, PROBE)
    finally:
        os.close(at)
