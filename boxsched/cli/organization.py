"""``boxsched organization``: list the organizations, create, change and delete them."""

from typing import Any

import click

from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.options import FiniteRange
from boxsched.cli.output import as_json_option, print_json, print_table
from boxsched.client import Client, Organization
from boxsched.errors import Conflict, NotFound
from boxsched.model import MAX_BOXES, Policy

MAX_LOST_RETRIES = 10
_SETTINGS = ("policy", "max_boxes", "priority_aging", "lost_retries")


def _settings(command: Any) -> Any:
    for option in (
        click.option(
            "--lost-retries",
            type=click.IntRange(0, MAX_LOST_RETRIES),
            metavar="N",
            help="How often a lost job of a build gets another Box. [at first: 2]",
        ),
        click.option(
            "--priority-aging",
            type=FiniteRange(min=0, min_open=True),
            metavar="S",
            help="After this many seconds of waiting, priority grows by one point. [at first: off]",
        ),
        click.option(
            "--max-boxes",
            type=click.IntRange(0, MAX_BOXES),
            metavar="N",
            help="The plan: limit of Boxes in use. [at first: no limit]",
        ),
        click.option(
            "--policy",
            type=click.Choice([policy.value for policy in Policy]),
            help="Which workloads may start before the first one that does not fit. [at first: "
            "backfill]",
        ),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True)
@as_json_option
@with_service
@click.pass_context
def organization(context: click.Context, as_json: bool, service: Service) -> None:
    """List the organizations. Each has its own projects, workers, Boxes, pauses and queue.

    All commands act in the organization `default`, or in the one that --organization names.

    \b
    Examples:
      boxsched organization
      boxsched organization create acme --max-boxes 20
      boxsched organization set acme --policy strict
      boxsched token create --role admin --organization acme
      boxsched --help
    """
    if context.invoked_subcommand is not None:
        return
    if as_json:
        print_json(service.call(lambda client: client.json("organizations")))
        return
    found = service.call(lambda client: client.organizations())
    print_table(
        ("organization", "policy", "max Boxes", "priority aging", "lost retries", "shard"),
        [
            (
                one.name,
                one.policy,
                "" if one.max_boxes is None else str(one.max_boxes),
                "" if one.priority_aging is None else f"{one.priority_aging:g} s",
                str(one.lost_retries),
                str(one.shard),
            )
            for one in found
        ],
    )


@organization.command()
@click.argument("name")
@_settings
@with_service
def create(name: str, service: Service, **settings: Any) -> None:
    """Create an organization. Its first token: `boxsched token create --organization NAME`.

    \b
    Example:  boxsched organization create acme --max-boxes 20
    """
    given = {field: value for field, value in settings.items() if value is not None}

    async def make(client: Client) -> Organization:
        if any(one.name == name for one in await client.organizations()):
            raise Conflict(f"there is an organization {name} already: change it with `set`")
        return await client.put_organization(name, **given)

    service.call(make)
    click.echo(f"{plain(name)}: created")


@organization.command(name="set")
@click.argument("name")
@_settings
@click.option("--no-max-boxes", is_flag=True, help="Remove the plan: no limit of Boxes.")
@click.option("--no-priority-aging", is_flag=True, help="Priorities do not grow.")
@with_service
def set_(
    name: str,
    service: Service,
    no_max_boxes: bool,
    no_priority_aging: bool,
    **settings: Any,
) -> None:
    """Change settings of an organization's queue. What is not given stays.

    \b
    Example:  boxsched organization set acme --policy strict --no-max-boxes
    """
    given: dict[str, Any] = {field: value for field, value in settings.items() if value is not None}
    if no_max_boxes:
        given["max_boxes"] = None
    if no_priority_aging:
        given["priority_aging"] = None

    async def change(client: Client) -> Organization:
        for one in await client.organizations():
            if one.name == name:
                before = {field: getattr(one, field) for field in _SETTINGS}
                return await client.put_organization(name, **{**before, **given})
        raise NotFound(f"there is no organization {name}; `boxsched organization` lists them")

    service.call(change)
    click.echo(f"{plain(name)}: changed")


@organization.command()
@click.argument("name")
@yes_option
@with_service
def delete(name: str, yes: bool, service: Service) -> None:
    """Delete an organization, with its projects and tokens. It must have no unfinished workloads.

    \b
    Example:  boxsched organization delete acme
    """
    confirm(f"Delete the organization {name}, with its projects and tokens?", yes=yes)
    service.call(lambda client: client.delete_organization(name))
    click.echo(f"{plain(name)}: deleted")
