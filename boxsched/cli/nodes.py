"""``boxsched nodes``: list the nodes, and remove a retired one."""

import click
from click.core import ParameterSource

from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table


@click.group(invoke_without_command=True)
@as_json_option
@with_service
@click.pass_context
def nodes(context: click.Context, as_json: bool, service: Service) -> None:
    """List the nodes, like `boxsched nodes list`, and remove retired ones.

    \b
    Example:  boxsched nodes
              boxsched nodes forget ci-3
    """
    if context.invoked_subcommand is None:
        _list(service, as_json)
        return
    said = ParameterSource.COMMANDLINE
    if any(context.get_parameter_source(name) is said for name in context.params):
        command = f"boxsched nodes {context.invoked_subcommand}"
        raise click.UsageError(f"options come after the command: {command} ...")


@nodes.command(name="list")
@as_json_option
@with_service
def list_nodes(as_json: bool, service: Service) -> None:
    """List the nodes: which are alive, and which lead. A star marks the node that answered.

    \b
    Example:  boxsched nodes list
    """
    _list(service, as_json)


@nodes.command()
@click.argument("name")
@yes_option
@with_service
def forget(name: str, yes: bool, service: Service) -> None:
    """Remove a retired node from the list. It must be shut down.

    \b
    Example:  boxsched nodes forget ci-3
    """
    confirm(f"Remove the node {name}?", yes=yes)
    service.call(lambda client: client.forget_node(name))
    click.echo(f"{plain(name)}: removed")


def _list(service: Service, as_json: bool) -> None:
    if as_json:
        print_json(service.call(lambda client: client.json("nodes")))
        return
    found = service.call(lambda client: client.nodes())
    at = now()
    rows = [
        (
            f"{one.name}{' *' if one.me else ''}",
            "alive" if one.alive else "away",
            "" if one.alive else ago(one.seen_at, at),
            ", ".join(map(str, one.shards)),
            one.url,
            one.version,
            ago(one.started_at, at),
        )
        for one in found
    ]
    print_table(("node", "state", "seen", "leads shard", "url", "version", "started"), rows)
