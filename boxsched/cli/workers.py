"""``boxsched workers``: list the workers, drain and remove them."""

import asyncio

import click

from boxsched.backoff import Backoff
from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import Failure
from boxsched.cli.ghosts import ghosts, kill_ghosts, restore_ghosts
from boxsched.cli.output import ago, as_json_option, local_time, now, print_json, print_table
from boxsched.cli.times import given_duration
from boxsched.cli.waiting import leaving, wait_for_restarts
from boxsched.client import Client, Worker
from boxsched.protocol.workers import IN_PROCESS

ABSENT = "disconnected"
FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS = 0.2, 5.0  # while a worker ends
_COLUMNS = (
    "id", "name", "address", "state", "seen", "boxes", "builds", "deploys", "sessions", "jobs",
    "note",
)  # fmt: skip


@click.group()
def workers() -> None:
    """List the workers, drain and remove them; decide about ghosts.

    \b
    Example:  boxsched workers list
              boxsched workers drain builder-2 --note "new disk" --wait
              boxsched workers ghosts
    """


for _command in (ghosts, restore_ghosts, kill_ghosts):
    workers.add_command(_command)


@workers.command(name="list")
@as_json_option
@with_service
def list_workers(as_json: bool, service: Service) -> None:
    """List the workers with their Boxes.

    The columns also show how many builds, deploys and SSH sessions are running, and whether the
    worker isolates and limits its jobs. The note says why a worker is being drained, or why it
    cannot begin jobs now; it gets none until the problem is solved.

    \b
    Example:  boxsched workers list
    """
    if as_json:
        print_json(service.call(lambda client: client.json("workers")))
        return
    found = service.call(lambda client: client.workers())
    at = now()
    rows = [
        (
            one.id,
            one.name,
            one.address,
            one.state,
            ago(one.seen_at, at) if one.state == ABSENT else "",
            *map(str, (one.boxes, one.builds, one.deploys, one.ssh_sessions)),
            one.enforced,
            _note(one),
        )
        for one in found
    ]
    print_table(_COLUMNS, rows, "there are no workers")


def _note(worker: Worker) -> str:
    parts = [] if worker.drain is None else [drain_text(worker)]
    if worker.differs and worker.drain is None:
        parts.append(f"gets no new jobs: {'; '.join(worker.differs)}")
    if worker.problem is not None:
        parts.append(f"begins no jobs: {worker.problem}")
    parts += [plain(note) for note in worker.notes]
    return "; ".join(parts)


def drain_text(worker: Worker) -> str:
    """Who drains the worker and why, and when its last jobs are stopped."""
    assert worker.drain is not None
    text = f"drained by {worker.drain.by}"
    if worker.drain.note:
        text += f" ({worker.drain.note})"
    if worker.drain.stop_at is not None and not worker.drain.done:
        text += f", jobs are stopped at {local_time(worker.drain.stop_at)}"
    return plain(text)


@workers.command()
@click.argument("name")
@click.option("--note", default="", metavar="TEXT", help="Why; shown with the worker.")
@click.option(
    "--stop-after", metavar="TIME", help="Stop jobs that still run after this time: 30m, 2h or 1d."
)
@click.option("--wait", is_flag=True, help="Return when the worker has ended.")
@as_json_option
@with_service
def drain(
    name: str, note: str, stop_after: str | None, wait: bool, as_json: bool, service: Service
) -> None:
    """Give a worker no new jobs; end it after its last.

    When this command returns, the worker gets no new jobs; its running jobs continue. After the
    last one it exits with status 0. A node's own worker (in-process) stays, without jobs. NAME may
    be the worker's ID. Repeat the command to change the note or the time.

    \b
    Example:  boxsched workers drain builder-2 --note "new disk" --wait
              boxsched workers drain builder-2 --stop-after 30m
              boxsched workers resume builder-2
    """
    seconds = (
        None if stop_after is None else given_duration("--stop-after", stop_after).total_seconds()
    )

    async def work(client: Client) -> Worker:
        wait_for_restarts(client)
        drained = await client.drain_worker(name, note=note, stop_after_seconds=seconds)
        if not as_json:
            click.echo(f"{plain(drained.name)}: {drain_text(drained)}")
        return await _ended(client, drained) if wait else drained

    back = f"boxsched workers resume {plain(name)}"
    with leaving(lambda: f"{plain(name)} is still being drained; to take it back: {back}"):
        drained = service.call(work)
    if as_json:
        found = service.call(lambda client: client.json("workers"))["workers"]
        print_json(next(one for one in found if one["id"] == drained.id))
    elif wait:
        own = drained.address == IN_PROCESS
        click.echo(f"{plain(drained.name)}: {'it has no jobs any more' if own else 'ended'}")


async def _ended(client: Client, worker: Worker) -> Worker:
    """Wait until the worker has ended, or the drain is taken back."""
    backoff = Backoff(FIRST_LOOK_SECONDS, LAST_LOOK_SECONDS)
    while True:
        found = [one for one in await client.workers() if one.id == worker.id]
        if not found:
            return worker  # it was removed
        (worker,) = found
        if worker.drain is None:
            raise Failure(f"{worker.name}: the drain was taken back")
        if worker.drain.done and (worker.state == ABSENT or worker.address == IN_PROCESS):
            return worker
        await asyncio.sleep(backoff.next())


@workers.command()
@click.argument("name")
@as_json_option
@with_service
def resume(name: str, as_json: bool, service: Service) -> None:
    """Cancel a worker's drain: it gets jobs again.

    A worker that has ended gets jobs again when it is started. NAME may be the worker's ID.

    \b
    Example:  boxsched workers resume builder-2
    """
    worker = service.call(lambda client: client.resume_worker(name))
    if as_json:
        found = service.call(lambda client: client.json("workers"))["workers"]
        print_json(next(one for one in found if one["id"] == worker.id))
        return
    gets = "gets jobs when it is started" if worker.state == ABSENT else "gets jobs again"
    click.echo(f"{plain(worker.name)}: {gets}")


@workers.command()
@click.argument("name")
@yes_option
@with_service
def remove(name: str, yes: bool, service: Service) -> None:
    """Remove a worker and its Boxes; end it first.

    It must not have jobs: drain it first. If a job's state is unknown, set its result first with
    `boxsched resolve`. If the worker connects again, it is a new worker. NAME may be its ID.

    \b
    Example:  boxsched workers drain builder-2 --wait
              boxsched workers remove builder-2
    """
    confirm(f"Remove the worker {name} and its Boxes?", yes=yes)
    service.call(lambda client: client.remove_worker(name))
    click.echo(f"{plain(name)}: removed")
