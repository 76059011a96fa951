"""``boxsched nodes``."""

import click

from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table


@click.command()
@as_json_option
@with_service
def nodes(as_json: bool, service: Service) -> None:
    """List the nodes: who is alive, and who leads. The one that answers is marked with a star.

    \b
    Example:  boxsched nodes
    """
    found = service.call(lambda client: client.nodes())
    if as_json:
        print_json({"nodes": found})
        return
    at = now()
    rows = [
        (
            f"{one.name}{' *' if one.me else ''}",
            "alive" if one.alive else "away",
            ", ".join(map(str, one.shards)),
            one.url,
            one.version,
            ago(one.started_at, at),
        )
        for one in found
    ]
    print_table(("node", "state", "leads shard", "url", "version", "started"), rows)
