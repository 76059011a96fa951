"""``boxsched set-aside``: commands that the scheduler could not execute."""

import click

from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table

SHOWN_CHARACTERS = 100  # how much of an error the table shows


@click.group()
def set_aside() -> None:
    """List, show and drop commands that the scheduler could not execute.

    A command is, for example, a submission, a stop or a worker's report. When a command raises an
    error, the scheduler sets it aside and continues. This is a bug in boxsched: please report it
    with the error. A workload whose submission was set aside ends canceled.

    The latest 1,000 are kept for 30 days. Drop a command when you have dealt with it.

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
    """Show a command that was set aside: its error and its content.

    COMMAND is its ID from `boxsched set-aside list`. The content may include environment variables
    of jobs.

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
    """Remove a command from the list.

    It is not tried again, and cannot be restored. COMMAND is its ID.

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
