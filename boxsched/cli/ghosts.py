"""``boxsched workers ghosts``, ``restore-ghosts``, ``kill-ghosts``."""

from collections.abc import Awaitable, Callable, Sequence

import click

from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table
from boxsched.client import Client, Ghost
from boxsched.errors import BoxschedError, NotFound

_COLUMNS = ("id", "worker", "job", "of", "attempt", "state", "since", "note")
_chosen = click.argument("ids", metavar="[ID]...", nargs=-1)
_all = click.option("--all", "all_", is_flag=True, help="All ghosts, or all of --worker.")
_worker = click.option("--worker", metavar="NAME", help="Only those of this worker.")


@click.command()
@_worker
@as_json_option
@with_service
def ghosts(worker: str | None, as_json: bool, service: Service) -> None:
    """List attempts that workers hold without a lease.

    A worker ends those of builds by itself. Those of deploys and SSH sessions continue until
    somebody restores or kills them.

    \b
    Example:  boxsched workers ghosts
              boxsched workers restore-ghosts 7
    """
    if as_json:
        listed = service.call(lambda client: client.json("ghosts"))["ghosts"]
        chosen = [one for one in listed if worker in (None, one["worker_name"], one["worker"])]
        print_json({"ghosts": chosen})
        return
    found = _of(worker, service.call(lambda client: client.ghosts()))
    at = now()
    rows = [
        (
            one.id,
            one.worker_name,
            one.job,
            _what(one),
            str(one.attempt),
            one.state,
            ago(one.since, at),
            _note(one),
        )
        for one in found
    ]
    print_table(_COLUMNS, rows, "there are no ghosts")


@click.command(name="restore-ghosts")
@_chosen
@_all
@_worker
@with_service
def restore_ghosts(ids: Sequence[str], all_: bool, worker: str | None, service: Service) -> None:
    """Give jobs back to the workers that hold attempts at them.

    The attempts go on under new lease tokens. A job that has finished, or has another attempt
    elsewhere, cannot be given back: its ghost can only be killed. With --all, such ghosts are left
    out.

    \b
    Example:  boxsched workers restore-ghosts 7 8
              boxsched workers restore-ghosts --all --worker builder-2
    """

    def choose(found: Sequence[Ghost]) -> Sequence[Ghost]:
        return [one for one in found if one.refusal is None]

    _each(service, ids, all_, worker, lambda client: client.restore_ghost, "restored", choose)


@click.command(name="kill-ghosts")
@_chosen
@_all
@_worker
@yes_option
@with_service
def kill_ghosts(
    ids: Sequence[str], all_: bool, worker: str | None, yes: bool, service: Service
) -> None:
    """End ghosts at their worker's next heartbeat.

    Those that have ended are discarded; the worker keeps their output for a while.

    \b
    Example:  boxsched workers kill-ghosts 7
              boxsched workers kill-ghosts --all
    """
    what = "all ghosts" if all_ and worker is None else "these ghosts"
    confirm(f"End {what}?", yes=yes)

    def choose(found: Sequence[Ghost]) -> Sequence[Ghost]:
        return [one for one in found if one.killed_by is None]

    _each(service, ids, all_, worker, lambda client: client.kill_ghost, "is being ended", choose)


def _each(
    service: Service,
    ids: Sequence[str],
    all_: bool,
    worker: str | None,
    call: Callable[[Client], Callable[[str], Awaitable[Ghost]]],
    done: str,
    choose: Callable[[Sequence[Ghost]], Sequence[Ghost]],
) -> None:
    """Do it with the chosen ghosts; end with status 1 if one was refused."""
    if bool(ids) == all_:
        raise InvalidInput("name ghosts by their IDs, or give --all")
    refused: list[str] = []

    async def work(client: Client) -> None:
        found = _of(worker, await client.ghosts())
        chosen = choose(found) if all_ else _named(ids, found)
        for one in chosen:
            try:
                await call(client)(one.id)
            except BoxschedError as error:
                refused.append(f"{one.id}: {error.message}")
                continue
            click.echo(plain(f"{one.id} ({one.job} on {one.worker_name}): {done}"))
        if not chosen:
            click.echo("there are none")

    service.call(work)
    if refused:
        raise Failure("; ".join(refused))


def _named(ids: Sequence[str], found: Sequence[Ghost]) -> Sequence[Ghost]:
    by_id = {one.id: one for one in found}
    for id_ in ids:
        if id_ not in by_id:
            raise NotFound(f"there is no ghost {id_!a}; `boxsched workers ghosts` shows their IDs")
    return [by_id[id_] for id_ in dict.fromkeys(ids)]


def _of(worker: str | None, found: Sequence[Ghost]) -> Sequence[Ghost]:
    return [one for one in found if worker in (None, one.worker_name, one.worker)]


def _what(one: Ghost) -> str:
    if one.project is None:
        return "a job that is not known"
    return f"{one.kind} {one.project} #{one.number}: {one.job_name}"


def _note(one: Ghost) -> str:
    parts = [] if one.connected else ["the worker is disconnected"]
    if one.killed_by is not None:
        parts.append(f"{one.killed_by} ends it")
    else:
        parts.append("can be restored" if one.refusal is None else one.refusal)
    return plain("; ".join(parts))
