"""``boxsched project``: apply, list, show, delete."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from boxsched import errors
from boxsched.cli import project_file
from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import as_json_option, print_fields, print_json, print_table
from boxsched.client import Client, Project


@click.group()
def project() -> None:
    """Apply, list, show and delete projects.

    \b
    Example:  boxsched project apply project.yaml
    """


@project.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--name", help="The project's name, where the file has none.")
@as_json_option
@with_service
def apply(file: Path, name: str | None, as_json: bool, service: Service) -> None:
    """Create or replace the projects of FILE, JSON or YAML.

    FILE is - for standard input. It holds one project, or a list: a name and the settings of each.
    A project that is refused ends the command; those before it are applied.

    \b
    A file:   name: web
              jobs:
                - name: unit
                  commands: [make test]
    Example:  boxsched project apply project.yaml
              boxsched project show web --json | boxsched project apply -
    """
    projects = project_file.read(file, name)

    async def work(client: Client) -> list[tuple[str, bool]]:
        done = []
        for one in projects:
            try:
                done.append((one.name, await client.put_project(one.name, one.settings)))
            except errors.Invalid as error:
                place = f"{one.name}: {error.field}" if error.field else one.name
                raise errors.Invalid(error.message, place) from None
        return done

    applied = service.call(work)
    for one in projects:
        for field in project_file.without_jobs(one.settings):
            click.echo(
                f"boxsched: {plain(one.name)}: {plain(field)} is empty: each "
                "submission has to name its jobs",
                err=True,
            )
    if as_json:
        print_json({"projects": [{"name": name, "created": new} for name, new in applied]})
        return
    for applied_name, created in applied:
        click.echo(f"{applied_name}: {'created' if created else 'replaced'}")


@project.command(name="list")
@as_json_option
@with_service
def list_projects(as_json: bool, service: Service) -> None:
    """List all projects.

    \b
    Example:  boxsched project list --json
    """
    projects = service.call(lambda client: client.projects())
    if as_json:
        print_json({"projects": [_as_sent(one) for one in projects]})
        return
    rows = [
        (
            one.name,
            str(one.settings.get("default_branch") or ""),
            ", ".join(job["name"] for job in one.settings.get("jobs", ())),
            ", ".join(one.settings.get("servers") or ()),
        )
        for one in projects
    ]
    print_table(("project", "branch", "jobs", "servers"), rows, "there are no projects yet")


@project.command()
@click.argument("name")
@as_json_option
@with_service
def show(name: str, as_json: bool, service: Service) -> None:
    """Show a project's settings.

    With --json they are as `project apply` takes them.

    \b
    Example:  boxsched project show web --json > web.json
    """
    found = service.call(lambda client: client.project(name))
    if as_json:
        print_json(_as_sent(found))
        return
    settings = found.settings
    print_fields(
        [
            ("project", found.name),
            ("repository", settings.get("repository") or ""),
            ("default branch", settings.get("default_branch") or ""),
            ("jobs", ", ".join(job["name"] for job in settings.get("jobs", ()))),
            ("servers", ", ".join(settings.get("servers") or ())),
            ("priority branches", ", ".join(settings.get("priority_branches") or ())),
            ("cancellation", ", ".join(map(_rule, settings.get("cancellation") or ()))),
            ("max boxes", str(settings.get("max_boxes") or "")),
            ("fail fast", str(settings.get("fail_fast") or "")),
        ]
    )


def _rule(rule: Sequence[Any]) -> str:
    """An entry of ``cancellation`` in words."""
    pattern, strategy, *more = rule
    spared = f" (spare after {more[0]['spare_after']})" if more and more[0] else ""
    return f"{pattern} {strategy}{spared}"


@project.command()
@click.argument("name")
@yes_option
@with_service
def delete(name: str, yes: bool, service: Service) -> None:
    """Delete a project; refused while it has unfinished workloads.

    Its finished workloads and their logs stay. A project made anew under the name goes on with the
    numbers.

    \b
    Example:  boxsched project delete web
    """
    confirm(f"Delete the project {name} and its settings?", yes=yes)
    service.call(lambda client: client.delete_project(name))
    click.echo(f"{name}: deleted")


def _as_sent(project: Project) -> dict[str, object]:
    return {"name": project.name, **project.settings}
