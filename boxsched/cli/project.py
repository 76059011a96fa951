"""``boxsched project``: the group, and list, show, delete."""

from collections.abc import Mapping, Sequence
from itertools import starmap
from typing import Any

import click

from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import as_json_option, print_fields, print_json, print_table
from boxsched.cli.project_apply import apply, export
from boxsched.cli.project_history import history, revert
from boxsched.client import Project


@click.group()
def project() -> None:
    """Apply, export, list, show and delete projects; their history.

    \b
    Example:  boxsched project apply project.yaml
              boxsched project history web
    """


for _command in (apply, export, history, revert):
    project.add_command(_command)


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

    With --json they have the format of `project apply`.

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
            ("jobs from", settings.get("jobs_from") or ""),
            ("servers", ", ".join(starmap(_server, (settings.get("servers") or {}).items()))),
            ("schedules", ", ".join(map(_schedule, settings.get("schedules") or ()))),
            ("build branches", ", ".join(settings.get("build_branches") or ())),
            ("pull requests", settings.get("pull_requests") or ""),
            ("hooks", ", ".join(hook["url"] for hook in settings.get("hooks") or ())),
            ("statuses", (settings.get("statuses") or {}).get("provider", "")),
            ("priority branches", ", ".join(settings.get("priority_branches") or ())),
            ("cancellation", ", ".join(map(_rule, settings.get("cancellation") or ()))),
            ("max boxes", str(settings.get("max_boxes") or "")),
            ("fail fast", str(settings.get("fail_fast") or "")),
        ]
    )


def _server(name: str, server: Mapping[str, Any]) -> str:
    return f"{name} (automatic)" if server.get("strategy") == "automatic" else name


def _schedule(schedule: Mapping[str, Any]) -> str:
    zone = schedule.get("time_zone") or "UTC"
    return f"{schedule['cron']} {zone} ({schedule['branch']})"


def _rule(rule: Sequence[Any]) -> str:
    """Describe an entry of ``cancellation``."""
    pattern, strategy, *more = rule
    spared = f" (spare after {more[0]['spare_after']})" if more and more[0] else ""
    return f"{pattern} {strategy}{spared}"


@project.command()
@click.argument("name")
@yes_option
@with_service
def delete(name: str, yes: bool, service: Service) -> None:
    """Delete a project. It must not have unfinished workloads.

    Its finished workloads and their logs stay. A new project with the same name continues their
    numbers.

    \b
    Example:  boxsched project delete web
    """
    confirm(f"Delete the project {name} and its settings?", yes=yes)
    service.call(lambda client: client.delete_project(name))
    click.echo(f"{name}: deleted")


def _as_sent(project: Project) -> dict[str, object]:
    return {"name": project.name, **project.settings}
