"""``boxsched set-aside``: commands that the scheduler could not carry out."""

import click

from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table

SHOWN_CHARACTERS = 100  # of an error, in the table


@click.group()
def set_aside() -> None:
    """See the commands that the scheduler could not carry out.

    A command is a submission, a stop, a worker's report, or the like. One that raises an error is
    set aside, so that the scheduler goes on. That is a mistake in boxsched: please report it, with
    the error. A workload whose submission was set aside ends canceled.

    The latest 1,000 are kept, for 30 days. Drop one when you have seen to it.

    \b
    Example:  boxsched set-aside list
              boxsched set-aside show 412
              boxsched set-aside drop 412
    """


@set_aside.command(name="list")
@as_json_option
@with_service
def list_commands(as_json: bool, service: Service) -> None:
    """List the latest 100 commands that were set aside, latest first.

    \b
    Example:  boxsched set-aside list
    """
    if as_json:
        print_json(service.call(lambda client: client.json("set-aside")))
        return
    found = service.call(lambda client: client.set_aside())
    if not found:
        click.echo("no command is set aside")
        return
    at = now()
    rows = [
        (one.id, one.kind, one.workload or "", ago(one.at, at), _short(one.error)) for one in found
    ]
    print_table(("id", "kind", "workload", "when", "error"), rows)


@set_aside.command()
@click.argument("command")
@as_json_option
@with_service
def show(command: str, as_json: bool, service: Service) -> None:
    """Show a command that was set aside: its error, and what it said.

    COMMAND is its ID, from `boxsched set-aside list`. What it said may contain environment
    variables of jobs.

    \b
    Example:  boxsched set-aside show 412
    """
    if as_json:
        print_json(service.call(lambda client: client.json("set-aside", command)))
        return
    one = service.call(lambda client: client.set_aside_command(command))
    click.echo(f"{plain(one.kind)} ({plain(one.id)}), set aside {ago(one.at, now())}")
    if one.workload is not None:
        click.echo(f"workload: {plain(one.workload)}")
    click.echo(f"error:    {plain(one.error)}")
    click.echo(f"payload:  {plain(one.payload)}")


@set_aside.command()
@click.argument("command")
@yes_option
@with_service
def drop(command: str, yes: bool, service: Service) -> None:
    """Drop a command that you have seen to: it is listed no more.

    It is not tried again, and cannot be brought back. COMMAND is its ID.

    \b
    Example:  boxsched set-aside drop 412
    """
    confirm(f"Drop the command {command}?", yes=yes)
    service.call(lambda client: client.drop_set_aside(command))
    click.echo(f"{plain(command)}: dropped")


def _short(error: str) -> str:
    if len(error) <= SHOWN_CHARACTERS:
        return error
    return f"{error[: SHOWN_CHARACTERS - 3]}..."
