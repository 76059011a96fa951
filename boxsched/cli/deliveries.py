"""``boxsched deliveries``: deliveries of code hosts and their results."""

from itertools import zip_longest

import click

from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table
from boxsched.client import Delivery

SHOWN_WORKLOADS = 5  # workloads of one delivery that the table names
RESULTS = ("created", "canceled", "duplicate", "ignored")


@click.command()
@click.option("--project", help="Only this project.")
@click.option("--result", type=click.Choice(RESULTS), help="Only deliveries with this result.")
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@as_json_option
@with_service
def deliveries(
    project: str | None, result: str | None, limit: int, as_json: bool, service: Service
) -> None:
    """List deliveries of code hosts with their results, newest first.

    A delivery that is not signed with its project's webhook secret is not listed: the metric
    boxsched_deliveries_total counts it as refused. Deliveries are listed for 7 days.

    \b
    Example:  boxsched deliveries --project web --result ignored
    """
    if as_json:
        asked = {"project": project, "result": result, "limit": str(limit)}
        query = {name: value for name, value in asked.items() if value is not None}
        print_json(service.call(lambda client: client.json("deliveries", **query)))
        return
    found = service.call(
        lambda client: client.deliveries(project=project, result=result, limit=limit)
    )
    at = now()
    rows = [
        (
            one.id,
            one.project,
            f"{one.provider} {one.event}",
            one.result,
            _few(one),
            ago(one.received_at, at),
            one.reason or "",
        )
        for one in found
    ]
    heads = ("id", "project", "event", "result", "workloads", "received", "reason")
    print_table(heads, rows, "there are no deliveries")


def _few(one: Delivery) -> str:
    """Name the first workloads by project and number; those that are deleted by their ids."""
    more = len(one.workloads) - SHOWN_WORKLOADS
    some = zip_longest(one.workloads[:SHOWN_WORKLOADS], one.numbers[:SHOWN_WORKLOADS])
    shown = " ".join(id_ if number is None else f"{one.project}#{number}" for id_, number in some)
    return shown if more <= 0 else f"{shown} and {more} more"
