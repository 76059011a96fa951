"""Wait until a workload ends; print its logs, and a line when the reason for waiting changes."""

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import click

from boxsched import errors
from boxsched.backoff import Backoff
from boxsched.cli.clean import plain
from boxsched.cli.failing import Failure
from boxsched.cli.following import follow_logs
from boxsched.cli.output import in_local_time, local_time
from boxsched.client import Client, Explanation, Workload
from boxsched.said_times import PATTERN

# Long enough for a restart of the service.
PATIENCE_SECONDS = 120.0
FIRST_LOOK_SECONDS = 0.5
LAST_LOOK_SECONDS = 15.0  # longest pause between two requests, which are expensive for the service
TROUBLE_SECONDS = 2.0  # how long the service is away before a message


class Interrupted(Failure):
    """Ctrl-C. The message says what continues without the command."""

    exit_code = 130  # as in shells: 128 + SIGINT


@contextlib.contextmanager
def leaving(what_continues: Callable[[], str | None]) -> Iterator[None]:
    """At Ctrl-C, end the command with a message about what continues, if anything does."""
    try:
        yield
    except KeyboardInterrupt:
        line = what_continues()
        if line is None:
            raise
        raise Interrupted(line) from None


def continuing(workloads: Sequence[Workload]) -> str:
    names = ", ".join(map(named, workloads))
    continues, it = ("continues", "it") if len(workloads) == 1 else ("continue", "them")
    ids = " ".join(workload.id for workload in workloads)
    return f"{names} {continues}; to stop {it}: boxsched stop {ids}"


def named(workload: Workload) -> str:
    return f"{plain(workload.title)} ({workload.id})"


def wait_for_restarts(client: Client) -> None:
    """Wait during a restart of the service from now on; print a message if it takes long."""
    client.patience = PATIENCE_SECONDS
    client.on_trouble = Trouble()


async def wait_for_end(
    client: Client, workload: Workload, *, follow: bool, as_json: bool
) -> Workload:
    wait_for_restarts(client)
    beside = [asyncio.create_task(say_why(client, workload))]
    following: asyncio.Task[None] | None = None
    try:
        if follow:
            out = sys.stderr if as_json else sys.stdout  # standard output contains only JSON
            jobs = workload.jobs or (await client.wait_for_jobs(workload.id)).jobs
            following = asyncio.create_task(follow_logs(client, jobs, out))
            beside.append(following)
        ended = await client.wait(workload.id)
        if following is not None:
            await following  # print the rest of the logs
        return ended
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


class Trouble:
    """Prints once in each outage, on standard error, that the service is away."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = -TROUBLE_SECONDS * 10
        self._said = False

    def __call__(self, error: errors.BoxschedError) -> None:
        now = self._clock()
        if now - self._last > TROUBLE_SECONDS * 5:  # a new outage
            self._began, self._said = now, False
        self._last = now
        if not self._said and now - self._began >= TROUBLE_SECONDS:
            self._said = True
            click.echo(f"boxsched: {plain(error.message)}; trying again", err=True)


async def say_why(client: Client, workload: Workload) -> None:
    """Print each new reason on standard error; nothing for a workload that starts at once."""
    printed = ""
    backoff = Backoff(FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS)
    while True:
        await asyncio.sleep(backoff.next())
        try:
            why = await client.explanation(workload.id)
        except errors.BoxschedError:
            continue  # if it persists, the other task raises it
        if why.phase == "finished":
            return
        line = reason_line(why)
        if line == printed or (not printed and why.reason == "running"):
            continue
        if PATTERN.sub("", line) != PATTERN.sub("", printed):
            said = f"{in_local_time(line)}{_start(why)}"
            click.echo(f"boxsched: {named(workload)} {said}", err=True)
            backoff.reset()
        printed = line


def reason_line(why: Explanation) -> str:
    text = plain(why.text)
    if why.reason == "running":
        return "has started" if text == "Has its Boxes." else f"runs: {text}"
    if why.reason == "unknown_job":
        return f"runs: {text}"
    if _never_starts(why):
        return f"cannot start now: {text}"
    place = "" if why.position is None else f" It is number {why.position} in the queue."
    if text.startswith("Waits "):
        return f"w{text[1:]}{place}"
    return f"waits: {text}{place}"


def _start(why: Explanation) -> str:
    start = why.expected_start
    return "" if start is None else f" It is expected to start by {local_time(start)}."


def _never_starts(why: Explanation) -> bool:
    """Whether it cannot start even if all others end: it needs more Boxes or another limit."""
    return why.reason == "no_such_boxes" or "can never start" in why.text
