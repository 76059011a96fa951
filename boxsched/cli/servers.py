"""``boxsched servers``: what is live on each server."""

import click

from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table, standing
from boxsched.cli.pause import covers
from boxsched.client import Client, Server, Workload


@click.command()
@click.argument("project")
@as_json_option
@with_service
def servers(project: str, as_json: bool, service: Service) -> None:
    """Show what is live on a project's servers, since when, and what waits for them.

    DEPLOYED BY is the name or role of the token that asked for the deploy, "page" for a browser, or
    "automatic". AUTHOR is who wrote the commit. PAUSED BY names each pause that covers the server.

    \b
    Example:  boxsched servers web
    """
    if as_json:
        print_json(service.call(lambda client: client.json("projects", project, "servers")))
        return

    async def work(client: Client) -> tuple[list[Server], list[tuple[str, ...]]]:
        found = await client.servers(project)
        return found, [await _row(client, one) for one in found]

    found, rows = service.call(work)
    names = (
        "server", "live", "since", "deployed by", "author", "last deploy", "waiting", "paused by",
    )  # fmt: skip
    print_table(names, rows, "the project has no servers")
    for one in found:
        if one.problem:
            said = f"boxsched: {plain(one.name)}: no automatic deploys: {plain(one.problem)}"
            click.echo(said, err=True)


async def _row(client: Client, one: Server) -> tuple[str, ...]:
    live, last = one.live, one.last
    return (
        one.name,
        "" if live is None else await _what(client, one, live),
        "" if live is None or live.finished_at is None else ago(live.finished_at, now()),
        "" if live is None else (live.submitted_by or ""),
        "" if live is None else (live.author or ""),
        "" if last is None else f"#{last.number} {standing(last.state, last.result)}",
        ", ".join(f"#{each.number}" for each in one.waiting),
        "; ".join(f"{each.name} ({covers(each)}): {each.note}" for each in one.pauses),
    )


async def _what(client: Client, one: Server, live: Workload) -> str:
    """Return the build that is live, or the commit or branch of its deploy."""
    if live.build is not None:
        number = one.build_number or (await client.workload(live.build)).number
        return f"build #{number}{' (rollback)' if live.rollback else ''}"
    return (live.commit or "")[:12] or live.branch or f"deploy #{live.number}"
