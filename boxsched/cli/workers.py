"""``boxsched workers``: list the workers, and remove a retired one."""

import click

from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table

ABSENT = "disconnected"
_COLUMNS = (
    "id", "name", "address", "state", "seen", "boxes", "builds", "deploys", "sessions", "problem",
)  # fmt: skip


@click.group()
def workers() -> None:
    """List the workers, and remove retired ones.

    \b
    Example:  boxsched workers list
    """


@workers.command(name="list")
@as_json_option
@with_service
def list_workers(as_json: bool, service: Service) -> None:
    """List the workers with their Boxes.

    The columns also show how many builds, deploys and SSH sessions are running. A worker with a
    problem can begin no jobs now, and gets none until the problem is solved.

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
            one.problem or "",
        )
        for one in found
    ]
    print_table(_COLUMNS, rows, "there are no workers")


@workers.command()
@click.argument("name")
@yes_option
@with_service
def forget(name: str, yes: bool, service: Service) -> None:
    """Remove a retired worker and its Boxes.

    It must not be connected or have jobs. If a job's state is unknown, set its result first with
    `boxsched resolve`. If the worker connects again, it is a new worker. NAME may be its ID.

    \b
    Example:  boxsched workers forget builder-2
    """
    confirm(f"Remove the worker {name} and its Boxes?", yes=yes)
    service.call(lambda client: client.forget_worker(name))
    click.echo(f"{plain(name)}: removed")
