"""Whether this worker can begin jobs. Where it cannot, its nodes are told, and give it none.

A job that could not begin, for a cause of the worker, starts an episode of trouble: the worker says
so, waits, and looks by itself whether it could begin a job now. It is over when that look finds
nothing wrong. Each episode lasts at least twice as long as the one before, until a job begins: a
clone that needs more room than there is fills the disk, fails, and leaves the disk empty behind it.
"""

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from boxsched.backoff import Backoff
from boxsched.worker.agent.repository import program
from boxsched.worker.supervisor import safe_files, trouble
from boxsched.worker.supervisor.folder import DISK_FULL

MACHINE_LOOK_SECONDS = 5.0
LONGEST_EPISODE_SECONDS = 300.0
FREE_BYTES = 64 << 20  # less is a full disk, unless the disk is small
SMALLEST_SHARE = 20  # of a small disk: this part of it
PROBE_BYTES = 64 << 10
PROGRAM_SECONDS = 10.0
PROBE = ".probe"
BASH, GIT = program("bash"), program("git")

_log = logging.getLogger(__name__)


class Readiness:
    """``folder`` is the agent's; ``say`` is durable when it returns."""

    def __init__(self, folder: Path, say: Callable[[str | None], Awaitable[None]]) -> None:
        self._folder = folder
        self._say = say
        self._programs = {BASH}  # what jobs here need; git, once one did
        self._episodes = Backoff(MACHINE_LOOK_SECONDS, LONGEST_EPISODE_SECONDS)
        self._until = 0.0
        self._suspected = asyncio.Event()
        self.problem: str | None = None

    def found(self, problem: str) -> None:
        """A job could not begin, for this cause."""
        if self.problem is None:
            self._until = time.monotonic() + self._episodes.next()
            _log.warning("no jobs can begin here until this is over: %s", problem)
        self.problem = problem
        if problem == trouble.missing(GIT):
            self._programs.add(GIT)
        self._suspected.set()

    def suspected(self) -> None:
        """A job ran into something that may keep others from beginning."""
        self._suspected.set()

    def begun(self) -> None:
        """A job began: the next trouble is another one."""
        self._episodes.reset()

    async def publish(self) -> None:
        """Tell the nodes whether jobs can begin here; return when they have stored it."""
        await self._say(self.problem)

    async def run(self) -> None:
        """Look again and again while something is wrong."""
        while True:
            await self._suspected.wait()
            self._suspected.clear()
            await self._look()

    async def _look(self) -> None:
        if self.problem is None:
            problem = await asyncio.to_thread(check, str(self._folder), sorted(self._programs))
            if problem is None:
                return
            self.found(problem)
        await self.publish()
        while self.problem is not None:
            await asyncio.sleep(max(MACHINE_LOOK_SECONDS, self._until - time.monotonic()))
            self.problem = await asyncio.to_thread(check, str(self._folder), sorted(self._programs))
        self._suspected.clear()
        _log.info("jobs can begin here again")
        await self.publish()


def check(folder: str, programs: Collection[str]) -> str | None:
    """Do what the beginning of a job needs, in the agent's folder. Blocking."""
    try:
        if has_no_room(folder):
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


def has_no_room(folder: str) -> bool:
    """Raises OSError."""
    status = os.statvfs(folder)
    needed = min(FREE_BYTES, status.f_blocks * status.f_frsize // SMALLEST_SHARE)
    return status.f_bavail * status.f_frsize < needed


def _write_probe(folder: str) -> None:
    """A folder with a file in it, as an attempt begins; what a job put there goes, and no link is
    followed. Raises OSError."""
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
