"""``boxsched schedules``: the next times of scheduled builds, and skipped times."""

import click

from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import (
    as_json_option,
    in_local_time,
    local_time,
    print_json,
    print_table,
    standing,
)
from boxsched.client import Client, Schedule


@click.command()
@click.argument("project", required=False)
@as_json_option
@with_service
def schedules(project: str | None, as_json: bool, service: Service) -> None:
    """Show the next times of a project's schedules, or of the schedules of all projects.

    Times are in this machine's time zone. SKIPPED shows times without a build, and the reason.

    \b
    Example:  boxsched schedules web
              boxsched schedules --json
    """

    async def work(client: Client) -> list[Schedule]:
        return await client.schedules(project)

    if as_json and project is not None:
        print_json(service.call(lambda client: client.json("projects", project, "schedules")))
        return
    found = service.call(work)
    if as_json:
        print_json({"schedules": found})
        return
    heads = ("project", "schedule", "branch", "next", "last", "skipped", "in words")
    print_table(heads, [_row(one) for one in found], "there are no schedules")


def _row(one: Schedule) -> tuple[str, ...]:
    skipped = one.skipped
    return (
        one.project,
        f"{one.cron} {one.time_zone}",
        one.branch,
        local_time(one.next[0]),
        _last(one),
        "" if skipped is None else f"{local_time(skipped.at)}: {in_local_time(skipped.reason)}",
        one.text,
    )


def _last(one: Schedule) -> str:
    if one.last is None:
        return ""
    at = local_time(one.last.at)
    if one.last.state is None:
        return at
    return f"{at} #{one.last.number} {standing(one.last.state, one.last.result)}"
