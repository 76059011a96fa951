"""``boxsched notifications``: list, show, resend."""

import click

from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import ago, as_json_option, local_time, now, print_json, print_table
from boxsched.client.records import Notification

SHOWN_CHARACTERS = 80  # how much of an error the table shows


@click.group()
def notifications() -> None:
    """List, show and resend notifications to code hosts and hooks.

    A notification that fails is tried again for a day. Then it is dead (on the page: given up)
    until you resend it. Delivered notifications are listed for 7 days, dead ones for 30.

    \b
    Example:  boxsched notifications list --state dead
              boxsched notifications show 412
              boxsched notifications resend 412
    """


@notifications.command(name="list")
@click.option(
    "--state",
    type=click.Choice(["waiting", "delivered", "dead"]),
    help="Only notifications in this state.",
)
@click.option("--limit", type=click.IntRange(1, 200), default=50, show_default=True)
@as_json_option
@with_service
def list_notifications(state: str | None, limit: int, as_json: bool, service: Service) -> None:
    """List notifications, newest first.

    \b
    Example:  boxsched notifications list --state dead
    """
    if as_json:
        query = {"limit": str(limit), **({} if state is None else {"state": state})}
        print_json(service.call(lambda client: client.json("notifications", **query)))
        return
    found = service.call(lambda client: client.notifications(state=state, limit=limit))
    at = now()
    rows = [
        (
            one.id,
            one.state,
            one.event,
            _workload(one),
            f"{one.provider or one.kind} {one.host}",
            str(one.attempts),
            ago(one.at, at),
            _short(one.error or ""),
        )
        for one in found
    ]
    heads = ("id", "state", "event", "workload", "to", "tries", "event was", "error")
    print_table(heads, rows, "there are no notifications")


@notifications.command()
@click.argument("notification")
@as_json_option
@with_service
def show(notification: str, as_json: bool, service: Service) -> None:
    """Show one notification. NOTIFICATION is its ID.

    \b
    Example:  boxsched notifications show 412
    """
    if as_json:
        print_json(service.call(lambda client: client.json("notifications", notification)))
        return
    _show(service.call(lambda client: client.notification(notification)))


@notifications.command()
@click.argument("notification")
@with_service
def resend(notification: str, service: Service) -> None:
    """Send a notification again now, and try for another day. NOTIFICATION is its ID.

    \b
    Example:  boxsched notifications resend 412
    """
    one = service.call(lambda client: client.resend_notification(notification))
    click.echo(f"{plain(one.id)}: will be sent to {plain(one.host)}")


def _show(one: Notification) -> None:
    click.echo(f"{plain(one.event)} of {plain(_workload(one))}")
    click.echo(f"to:       {plain(one.provider or one.kind)} {plain(one.url or one.host)}")
    if one.signed is False:
        click.echo("signed:   no, the hook has no secret")
    tries = "try" if one.attempts == 1 else "tries"
    click.echo(f"state:    {plain(one.state)} after {one.attempts} {tries}")
    if one.next_try_at is not None:
        click.echo(f"next try: {local_time(one.next_try_at)}")
    if one.status is not None:
        click.echo(f"status:   {one.status}")
    if one.error is not None:
        click.echo(f"error:    {plain(one.error)}")


def _workload(one: Notification) -> str:
    return one.workload if one.number is None else f"{one.project}#{one.number}"


def _short(error: str) -> str:
    if len(error) <= SHOWN_CHARACTERS:
        return error
    return f"{error[: SHOWN_CHARACTERS - 3]}..."
