"""Runs of pytest on a copy of the project: the working tree is only read."""

import ctypes
import enum
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutation.changes import Mutant

_PR_SET_CHILD_SUBREAPER = 36
_QUIET = ("-q", "--no-header", "-p", "no:cacheprovider")


def adopt_orphans() -> None:
    """Make this process the parent of processes that tests leave behind, so ``end_orphans`` finds
    them."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


_NOT_RUN = frozenset((4, 5))  # pytest's: a wrong command line (an unknown test), no tests


class Outcome(enum.StrEnum):
    """The result for a mutant. After a time-out it hangs or the machine was busy: check it."""

    CAUGHT = "caught"
    SURVIVED = "survived"
    OUT_OF_TIME = "out of time"


class Copy:
    """A copy of all files that git knows, or does not ignore, in their present state."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.folder = folder
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=project, check=True, capture_output=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (project / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(project / name, folder / name)

    def measure(self, folders: Sequence[str], data: Path, durations: Path) -> int:
        """Run these folders of tests unchanged; return pytest's exit status."""
        command = [
            *(sys.executable, "-m", "coverage", "run", f"--data-file={data}"),
            *("--source", str(self.folder / "boxsched"), "-m", "pytest", *_QUIET),
            *("-p", "tests.mutation.plugin", *(f"tests/{each}" for each in folders)),
        ]
        environment = {"MUTATION_NEAREST": str(durations)}
        return self._start(command, environment).wait()

    def tried(self, mutant: Mutant, tests: Sequence[str], seconds: float) -> Outcome:
        """Run these tests with the change, until one fails or ``seconds`` have passed.

        If the mutant changes the name of a test, whose parameters are in its name, all tests of
        these files run. Raises ValueError if pytest could not run them either, for example because
        of an unknown test name: such a run tells nothing about the mutant.
        """
        path = self.folder / mutant.file
        source = path.read_bytes()
        path.write_bytes(mutant.applied(source))
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()
        try:
            status = self._status(tests, seconds)
            if status in _NOT_RUN:
                files = dict.fromkeys(name.partition("::")[0] for name in tests)
                status = self._status(list(files), seconds)
        except subprocess.TimeoutExpired:
            return Outcome.OUT_OF_TIME
        finally:
            path.write_bytes(source)
        if status in _NOT_RUN:
            raise ValueError(f"pytest ended with {status}: it could not run {', '.join(tests[:3])}")
        return Outcome.CAUGHT if status else Outcome.SURVIVED

    def _status(self, tests: Sequence[str], seconds: float) -> int:
        """Run these tests; return pytest's exit status. Raises TimeoutExpired."""
        named = self.folder / "nearest.txt"
        named.write_text("\n".join(tests))
        command = [sys.executable, "-m", "pytest", *_QUIET, "-x", f"@{named}"]
        started = self._start(command, {"PYTHONDONTWRITEBYTECODE": "1"})
        try:
            return started.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait()
            raise

    def _start(self, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(self.folder), **environment},
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )


def end_orphans() -> None:
    """Kill and reap every child of this process, and the children that they leave behind."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    while pids := [int(pid) for pid in children.read_text().split()]:
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
