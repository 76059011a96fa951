"""``boxsched project history`` and ``revert``."""

from collections.abc import Sequence

import click

from boxsched import errors
from boxsched.cli import project_text
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.output import ago, as_json_option, local_time, now, print_json, print_table
from boxsched.client import Client, Project, ProjectHistory, ProjectVersion


@click.command()
@click.argument("project")
@click.option("--diff", is_flag=True, help="Show what each version changed, line by line.")
@click.option("--limit", type=click.IntRange(1, 100), default=20, show_default=True)
@as_json_option
@with_service
def history(project: str, diff: bool, limit: int, as_json: bool, service: Service) -> None:
    """List who changed a project's settings, when, and which fields.

    Latest first. The latest 100 versions are kept, without secrets.

    \b
    Example:  boxsched project history web
              boxsched project history web --diff --limit 1
    """
    if as_json:
        print_json(
            service.call(
                lambda client: client.json("projects", project, "history", limit=str(limit))
            )
        )
        return
    found = service.call(lambda client: client.project_history(project, limit=limit))
    if diff:
        _show_each(service.call(lambda client: _with_settings(client, project, found)), limit)
        return
    at = now()
    rows = [
        (str(one.version), ago(one.at, at) or "unknown", one.by or "unknown", _what(one))
        for one in found.versions
    ]
    print_table(("version", "changed", "by", "what"), rows)


async def _with_settings(
    client: Client, project: str, found: ProjectHistory
) -> list[ProjectVersion]:
    """Return the versions with their settings, and the version before them to compare with."""
    numbers = [one.version for one in found.versions]
    if found.next_cursor is not None:
        before = await client.project_history(project, limit=1, cursor=found.next_cursor)
        numbers += [one.version for one in before.versions]
    return [await client.project_version(project, number) for number in numbers]


def _show_each(versions: Sequence[ProjectVersion], limit: int) -> None:
    for place, one in enumerate(versions[:limit]):
        if place:
            click.echo()
        when = local_time(one.at) or "at an unknown time"
        click.echo(plain(f"version {one.version}, {when}, by {one.by or 'unknown'}: {_what(one)}"))
        before = versions[place + 1].settings if place + 1 < len(versions) else None
        if before is not None or one.version == 1:
            project_text.show(project_text.differences(before, one.settings or {}))


def _what(one: ProjectVersion) -> str:
    fields = ", ".join(one.changed)
    if one.reverts is not None:
        return f"back to version {one.reverts}: {fields}"
    if one.version == 1:
        return f"created: {fields}" if fields else "created"
    return fields


@click.command()
@click.argument("project")
@click.option(
    "--to",
    "version",
    type=click.IntRange(1),
    help="The version to return to. [default: the one before the latest]",
)
@with_service
def revert(project: str, version: int | None, service: Service) -> None:
    """Bring back the settings of an earlier version, as a new version.

    Secrets stay unchanged. A hook that comes back has no secret: a warning names it. Without --to,
    the latest change is undone. If somebody else changes the project in the meantime, nothing is
    changed.

    \b
    Example:  boxsched project revert web
              boxsched project revert web --to 12
    """

    async def work(client: Client) -> tuple[int, Project, Project]:
        latest = await client.project_history(project, limit=2)
        back_to = version or _before(latest)
        before = await client.project(project)
        etag = latest.etag if version is None else None
        try:
            return back_to, before, await client.revert_project(project, back_to, etag=etag)
        except errors.Outdated:
            raise Failure(
                f"{project}: not reverted, because somebody else changed it in the meantime"
            ) from None

    back_to, before, after = service.call(work)
    if before.settings == after.settings:
        click.echo(f"{plain(project)}: unchanged, it already has the settings of version {back_to}")
        return
    click.echo(f"{plain(project)}: has the settings of version {back_to} again")
    project_text.show(project_text.differences(before.settings, after.settings))
    kept = {hook["url"] for hook in before.settings.get("hooks", ())}
    for hook in after.settings.get("hooks", ()):
        if hook["url"] not in kept:
            click.echo(
                f"warning: the hook {plain(hook['url'])} is back without a secret: its requests "
                "are not signed until you set its secret",
                err=True,
            )


def _before(latest: ProjectHistory) -> int:
    if len(latest.versions) < 2:
        raise InvalidInput("there is no earlier version to return to")
    return latest.versions[1].version
