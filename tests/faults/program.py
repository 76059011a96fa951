"""A boxsched process that is started, observed, frozen, killed, and restarted on the same data
folder."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults import processes
from tests.faults.waiting import GENEROUS_SECONDS, until_true

HOOKS = Path(__file__).parent / "hooks"
END_SECONDS = 60.0


class Program:
    """``options`` may be changed between two runs; ``said`` is the output of all runs."""

    def __init__(self, folder: Path, name: str, command: str, *options: str) -> None:
        self.name = name
        self.folder = folder
        self.data = folder / name
        self.options = list(options)
        self.environment: dict[str, str] = {}
        # a command that runs ours, for example in a namespace
        self.within: list[str] = []
        self._command = command
        self._log = folder / f"{name}.log"
        self._stall = folder / f"{name}.stall"
        self._process: asyncio.subprocess.Process | None = None
        self._begin = 0

    async def spawn(self) -> None:
        mark = len(self.said)
        with self._log.open("ab") as log:
            log.write(f"--- {self.name} begins\n".encode())
            self._process = await asyncio.create_subprocess_exec(
                *self.within,
                sys.executable, "-m", "boxsched", self._command, "--data", str(self.data),
                *self.options,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONPATH": str(HOOKS),
                    "FAULT_STALL": str(self._stall),
                    **self.environment,
                },
            )  # fmt: skip
        self._begin = mark

    @property
    def said(self) -> str:
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    @property
    def raised(self) -> bool:
        """Whether any run printed a traceback."""
        return "Traceback (most recent call last)" in self.said

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def standing(self) -> str:
        if self._process is None:
            return "was never begun"
        status = self._process.returncode
        if status is None:
            return f"runs ({processes.state(self.pid) or 'gone'})"
        return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended: {status}"

    def has_said(self, text: str) -> bool:
        """Whether the current run has printed it."""
        return text in self.said[self._begin :]

    async def says(
        self, text: str, *, within: float = GENEROUS_SECONDS, after: int | None = None
    ) -> None:
        """Return when the current run has printed that; raise if it ended instead."""
        after = self._begin if after is None else after
        await until_true(
            lambda: text in self.said[after:] or not self.runs,
            f"{self.name} says {text!r}",
            within=within,
        )
        assert text in self.said[after:], f"{self.name} ended:\n{self.said[-3000:]}"

    async def kill(self) -> None:
        """Kill it with -9; the jobs that it started are left alone."""
        await self._end(signal.SIGKILL)

    async def terminate(self) -> int:
        return await self._end(signal.SIGTERM)

    async def ended(self) -> int:
        """Return its exit status once it has ended by itself."""
        assert self._process is not None
        async with asyncio.timeout(END_SECONDS):
            return await self._process.wait()

    async def _end(self, sign: signal.Signals) -> int:
        self.signal(sign)
        return await self.ended()

    def signal(self, sign: signal.Signals) -> None:
        if self.runs:  # otherwise its pid may already belong to another process
            processes.send([self.pid], sign)

    async def freeze(self) -> None:
        self.signal(signal.SIGSTOP)
        await until_true(lambda: processes.state(self.pid) == "T", f"{self.name} is frozen")

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)

    def stall(self) -> None:
        """Block its event loop until ``unstall``; its other threads continue."""
        self._stall.touch()
        self.signal(signal.SIGUSR2)

    def unstall(self) -> None:
        self._stall.unlink()
