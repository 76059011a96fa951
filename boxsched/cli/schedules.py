"""``boxsched schedules``: when builds come by themselves, and which times had none."""

import zoneinfo
from datetime import datetime

import click

from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import as_json_option, print_json, print_table, standing
from boxsched.client import Client, Schedule


@click.command()
@click.argument("project", required=False)
@as_json_option
@with_service
def schedules(project: str | None, as_json: bool, service: Service) -> None:
    """Show when the schedules of a project come next, or those of all projects.

    Times are those of each schedule's own time zone. SKIPPED names times that had no build of
    their own, and why.

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
        _local(one.next[0], one.time_zone),
        _last(one),
        "" if skipped is None else f"{_local(skipped.at, one.time_zone)}: {skipped.reason}",
        one.text,
    )


def _last(one: Schedule) -> str:
    if one.last is None:
        return ""
    at = _local(one.last.at, one.time_zone)
    if one.last.state is None:
        return at
    return f"{at} #{one.last.number} {standing(one.last.state, one.last.result)}"


def _local(time: datetime, zone: str) -> str:
    """With its offset: of two hours that are alike only that tells them apart."""
    try:
        time = time.astimezone(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        pass
    return time.isoformat(" ", "minutes")
