"""Print the logs of one job, or of all jobs of a workload with the job's name on each line."""

import asyncio
import codecs
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TextIO

from boxsched.cli.clean import Cleaner, plain
from boxsched.cli.output import padded, width
from boxsched.client import Client, Job

_RESET = "\x1b[0m"
MAX_LINE_CHARACTERS = 65_536  # a longer line is printed in pieces before it ends
MAX_LOGS_AT_ONCE = 50


class Printer:
    """Prints one job's log: decoded, cleaned, and with the prefix before each line."""

    def __init__(self, out: TextIO, prefix: str = "") -> None:
        self._out = out
        self._colour = out.isatty()
        self._prefix = prefix
        self._line = ""
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._cleaner = Cleaner(colour=self._colour)

    def feed(self, chunk: bytes) -> None:
        self._show(self._cleaner.feed(self._decode(chunk)))

    def end(self) -> None:
        self._show(self._cleaner.feed(self._decode(b"", True)) + self._cleaner.end())
        if self._line:
            self._print_line(self._line)
            self._line = ""
        self._out.flush()

    def _show(self, text: str) -> None:
        if not self._prefix:
            self._out.write(text)
        else:
            *lines, self._line = (self._line + text).split("\n")
            for line in lines:
                self._print_line(line)
            if len(self._line) > MAX_LINE_CHARACTERS:
                self._print_line(self._line)
                self._line = ""
        self._out.flush()

    def _print_line(self, line: str) -> None:
        # Lines of several jobs are mixed, so a colour must end with its line.
        reset = _RESET if "\x1b" in line else ""
        self._out.write(f"{self._prefix}{line}{reset}\n")


async def print_logs(
    read: Callable[[str], Awaitable[bytes]], jobs: Sequence[Job], out: TextIO
) -> None:
    """Print the jobs' logs one after the other. ``read``: returns the log of a job's id."""
    for job_id, printer in _printers(jobs, out):
        printer.feed(await read(job_id))
        printer.end()


def _printers(jobs: Sequence[Job], out: TextIO) -> list[tuple[str, Printer]]:
    """Return a printer for each job's id, which prints the job's name if there are several."""
    names = [plain(job.name) for job in jobs]
    cells = max(map(width, names), default=0)
    several = len(jobs) > 1
    return [
        (job.id, Printer(out, f"{padded(name, cells)} | " if several else ""))
        for job, name in zip(jobs, names, strict=True)
    ]


async def follow_logs(client: Client, jobs: Sequence[Job], out: TextIO) -> None:
    """Print the jobs' logs at once as they grow, until the jobs have ended."""
    places = asyncio.Semaphore(MAX_LOGS_AT_ONCE)

    async def one(job_id: str, printer: Printer) -> None:
        async with places:
            await _print_stream(client.follow_log(job_id), printer)

    tasks = [asyncio.create_task(one(*each)) for each in _printers(jobs, out)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _print_stream(chunks: AsyncIterator[bytes], printer: Printer) -> None:
    try:
        async for chunk in chunks:
            printer.feed(chunk)
    finally:
        with contextlib.suppress(OSError):  # standard output may be closed
            printer.end()
