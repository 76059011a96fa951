"""``boxsched workers``: the machines that have Boxes."""

import click

from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import as_json_option, print_json, print_table

_COLUMNS = ("id", "name", "address", "state", "boxes", "builds", "deploys", "sessions")


@click.group()
def workers() -> None:
    """List the workers.

    \b
    Example:  boxsched workers list
    """


@workers.command(name="list")
@as_json_option
@with_service
def list_workers(as_json: bool, service: Service) -> None:
    """List the workers: their Boxes, and how many builds, deploys and SSH sessions run there.

    \b
    Example:  boxsched workers list
    """
    found = service.call(lambda client: client.workers())
    if as_json:
        print_json({"workers": found})
        return
    rows = [
        (
            one.id,
            one.name,
            one.address,
            one.state,
            *map(str, (one.boxes, one.builds, one.deploys, one.ssh_sessions)),
        )
        for one in found
    ]
    print_table(_COLUMNS, rows)
