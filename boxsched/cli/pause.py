"""``boxsched pause``, ``pauses``, ``resume`` and ``bump``."""

from datetime import UTC, datetime

import click

from boxsched import errors
from boxsched.cli import naming
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import Failure, InvalidInput, each_of
from boxsched.cli.output import ago, as_json_option, local_time, now, print_json, print_table
from boxsched.cli.times import given_duration
from boxsched.client import Client, Pause
from boxsched.model import MAX_PRIORITY, MIN_PRIORITY


@click.command()
@click.argument("name")
@click.option("--note", required=True, metavar="TEXT", help="The reason; shown to everyone.")
@click.option("--project", metavar="NAME", help="Only this project.")
@click.option("--branch", metavar="PATTERN", help="Only the project's builds of matching branches.")
@click.option("--server", metavar="NAME", help="Only the project's deploys to this server.")
@click.option("--automatic", is_flag=True, help="Only automatic deploys.")
@click.option(
    "--until", metavar="TIME", help="End the pause at this time, such as 2027-01-31T18:00Z."
)
@click.option(
    "--for", "lasting", metavar="TIME", help="End the pause after this time: 30m, 2h or 3d."
)
@as_json_option
@with_service
def pause(
    name: str,
    note: str,
    project: str | None,
    branch: str | None,
    server: str | None,
    automatic: bool,
    until: str | None,
    lasting: str | None,
    as_json: bool,
    service: Service,
) -> None:
    """Pause everything, a project, a branch or a server under the name NAME.

    Without options the pause covers everything. Workloads that it covers do not start until it is
    resumed. Running workloads continue. Waiting workloads keep their positions, and block only
    their own branch or server. A pause with the same NAME is replaced.

    \b
    Example:  boxsched pause freeze --note "release week" --project web --server production
              boxsched pause upgrade --note "new kernel" --for 30m
              boxsched resume freeze
    """
    if until is not None and lasting is not None:
        raise InvalidInput("give at most one of --until and --for")
    if lasting is not None:
        until = (datetime.now(UTC) + given_duration("--for", lasting)).isoformat()
    made = service.call(
        lambda client: client.pause(
            name, note=note, project=project, branch=branch, server=server, automatic=automatic,
            until=until,
        )
    )  # fmt: skip
    if as_json:
        print_json(service.call(lambda client: client.json("pauses"))["pauses"])
        return
    click.echo(f"{plain(made.name)}: {covers(made)} paused{_until(made)}")


@click.command()
@as_json_option
@with_service
def pauses(as_json: bool, service: Service) -> None:
    """List the current pauses.

    \b
    Example:  boxsched pauses
    """
    if as_json:
        print_json(service.call(lambda client: client.json("pauses")))
        return
    found = service.call(lambda client: client.pauses())
    if not found:
        click.echo("nothing is paused")
        return
    at = now()
    rows = [
        (one.name, covers(one), one.by, ago(one.since, at), _end(one), one.note) for one in found
    ]
    print_table(("name", "covers", "by", "since", "until", "note"), rows)


@click.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@with_service
def resume(names: tuple[str, ...], service: Service) -> None:
    """End pauses, so that the workloads they covered can start.

    \b
    Example:  boxsched resume freeze
    """

    async def work(client: Client) -> int:
        async def end(name: str) -> None:
            await client.resume(name)
            click.echo(f"{plain(name)}: resumed")

        return await each_of({name: name for name in names}, end)

    status = service.call(work)
    if status:
        raise click.exceptions.Exit(status)


@click.command()
@click.argument("workload", metavar="ID")
@click.argument("priority", type=click.IntRange(MIN_PRIORITY, MAX_PRIORITY))
@click.option("--note", default="", metavar="TEXT", help="Why, for the history.")
@as_json_option
@with_service
def bump(workload: str, priority: int, note: str, as_json: bool, service: Service) -> None:
    """Change the priority of a waiting workload: 0 to 100, higher first.

    By default, deploys and SSH sessions have 80, builds of priority branches 70, other builds 50.

    \b
    Example:  boxsched bump web#41 90 --note "the fix for the outage"
    """

    async def work(client: Client) -> tuple[str, object]:
        id_ = await naming.workload_id(client, workload)
        try:
            done = await client.reprioritize(id_, priority, note=note)
        except errors.Conflict as error:
            raise Failure(f"{plain(workload)}: {plain(error.message)}") from None
        return done.title, await client.json("workloads", id_) if as_json else None

    title, shown = service.call(work)
    if as_json:
        print_json(shown)
        return
    click.echo(f"{plain(title)}: priority {priority}")


def covers(one: Pause) -> str:
    """Say what a pause covers, in words."""
    what = "everything" if one.project is None else plain(one.project)
    if one.branch is not None:
        what = f"builds of {plain(one.branch)} in {what}"
    deploys = "automatic deploys" if one.automatic else "deploys"
    if one.server is not None:
        return f"{deploys} to {plain(one.server)} of {what}"
    return f"{deploys} of {what}" if one.automatic else what


def _end(one: Pause) -> str:
    return local_time(one.until)


def _until(one: Pause) -> str:
    return "" if one.until is None else f" until {_end(one)}"
