"""Waiting for a workload's end: with its logs, and a word where the end may never come."""

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator

import click

from boxsched import errors
from boxsched.cli.clean import plain
from boxsched.cli.failing import Failure
from boxsched.cli.following import print_logs
from boxsched.client import Client, Explanation, Workload

FIRST_LOOK_SECONDS = 0.5
LAST_LOOK_SECONDS = 60.0  # between two looks; each costs the service more than most requests


class Interrupted(Failure):
    """By Ctrl-C; the line says what goes on without the command."""

    exit_code = 130  # as shells have it: 128 + SIGINT


@contextlib.contextmanager
def leaving(goes_on: Callable[[], str | None]) -> Iterator[None]:
    """Ends the command at Ctrl-C with what goes on; None = nothing yet."""
    try:
        yield
    except KeyboardInterrupt:
        line = goes_on()
        if line is None:
            raise
        raise Interrupted(line) from None


def still_there(workload: Workload) -> str:
    return f"{_named(workload)} goes on; to stop it: boxsched stop {workload.id}"


async def to_the_end(
    client: Client, workload: Workload, *, follow: bool, as_json: bool
) -> Workload:
    beside = [asyncio.create_task(_tell_if_stuck(client, workload))]
    following: asyncio.Task[None] | None = None
    if follow:
        out = sys.stderr if as_json else sys.stdout  # JSON stays alone on standard output
        jobs = workload.jobs or (await client.workload(workload.id)).jobs
        following = asyncio.create_task(print_logs(client, jobs, follow=True, out=out))
        beside.append(following)
    try:
        ended = await client.wait(workload.id)
        if following is not None:
            await following  # what the logs still have to say
        return ended
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def _tell_if_stuck(client: Client, workload: Workload) -> None:
    """Once, on standard error."""
    pause = FIRST_LOOK_SECONDS
    while True:
        await asyncio.sleep(pause)
        pause = min(2 * pause, LAST_LOOK_SECONDS)
        try:
            why = await client.explanation(workload.id)
        except errors.BoxschedError:
            continue  # whoever waits for the end says what there is to say
        if why.phase in ("assignment", "finished"):
            return
        if _never_starts(why):
            click.echo(
                f"boxsched: {_named(workload)} cannot start as things are: {plain(why.text)}",
                err=True,
            )
            return


def _never_starts(why: Explanation) -> bool:
    """Whether no end of another makes room: more Boxes, or another limit, must come."""
    return why.reason == "no_such_boxes" or "can never start" in why.text


def _named(workload: Workload) -> str:
    return f"{plain(workload.title)} ({workload.id})"
