"""``boxsched project apply`` and ``export``: projects as files."""

from collections.abc import Sequence
from pathlib import Path

import attrs
import click

from boxsched import errors
from boxsched.cli import project_file, project_text
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import BAD_USE, Failure
from boxsched.cli.output import as_json_option, print_json
from boxsched.cli.project_file import ProjectFile
from boxsched.client import Client, Project, ProjectCheck

WOULD_CHANGE = 3  # the exit status of a dry run that would change something

NOT_IN_IT = """\
# If you apply this file again, nothing changes. Values that cannot be read are not in it and stay
# unchanged: webhook_secret, git_credentials, statuses.token, the secret of each hook, and `boxsched
# secrets`.
"""


@attrs.frozen
class Checked:
    """A project in a file, and what applying it would change."""

    one: ProjectFile
    check: ProjectCheck

    @property
    def changes(self) -> bool:
        return self.check.created or bool(self.check.changed)

    def line(self, *, dry: bool) -> str:
        """Return the line to print about it."""
        if not self.changes:
            return f"{self.one.name}: unchanged"
        word = "created" if self.check.created else "changed"
        fields = "" if self.check.created else f": {', '.join(self.check.changed)}"
        return f"{self.one.name}: {'would be ' if dry else ''}{word}{fields}"


@click.command()
@click.argument(
    "files",
    nargs=-1,
    required=True,
    metavar="FILE...",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
)
@click.option("--name", help="The project's name, if the file does not contain it.")
@click.option(
    "--dry-run", is_flag=True, help="Change nothing; exit with 3 if something would change."
)
@as_json_option
@with_service
def apply(
    files: tuple[Path, ...], name: str | None, dry_run: bool, as_json: bool, service: Service
) -> None:
    """Create or replace the projects of files, and show what changes.

    Files are JSON or YAML; - is standard input. A file contains one project, a list of projects, a
    mapping of names under `projects` or, in YAML, several documents. All projects are checked
    before the first is changed. If somebody else changes a project in the meantime, the command
    ends without overwriting that change.

    \b
    A file:   name: web
              jobs:
                - name: unit
                  commands: [make test]
    Example:  boxsched project apply project.yaml
              boxsched project apply --dry-run projects/*.yaml
              boxsched project export web | boxsched project apply -
    """
    projects = project_file.read_all(files, name)
    checked = service.call(lambda client: _check(client, projects))
    for one in projects:
        for field in project_file.without_jobs(one.settings):
            click.echo(
                f"boxsched: {plain(one.name)}: {plain(field)} is empty: each "
                "submission must contain its jobs",
                err=True,
            )
    if not dry_run:
        service.call(lambda client: _apply(client, checked, quiet=as_json))
    elif not as_json:
        for each in checked:
            _show(each, dry=True)
    if as_json:
        print_json({"projects": [_shown(each, dry=dry_run) for each in checked]})
    if dry_run and any(each.changes for each in checked):
        raise SystemExit(WOULD_CHANGE)


async def _check(client: Client, projects: Sequence[ProjectFile]) -> list[Checked]:
    """Return what each project would change. If any is refused, print all errors and end the
    command.
    """
    checked, refused = [], False
    for one in projects:
        try:
            checked.append(Checked(one, await client.check_project(one.name, one.settings)))
        except (errors.Invalid, errors.Malformed, errors.TooLarge) as error:
            refused = True
            name_of = "name" if error.field == "project" else error.field
            field = f"{name_of}: " if name_of else ""
            line = f"{one.origin.of(name_of)}{one.name}: {field}{error.message}"
            click.echo(f"boxsched: {plain(line)}", err=True)
        except errors.Conflict as error:  # no key for secrets
            raise Failure(f"{one.name}: {error.message}") from None
    if refused:
        raise SystemExit(BAD_USE)
    return checked


async def _apply(client: Client, checked: Sequence[Checked], *, quiet: bool) -> None:
    for each in checked:
        if each.changes:
            await _put(client, each)
        if not quiet:
            _show(each, dry=False)


async def _put(client: Client, each: Checked) -> None:
    """Change the project as it was checked."""
    name, settings = each.one.name, each.one.settings
    try:
        await client.put_checked_project(name, settings, each.check.etag)
    except errors.Outdated:
        now = await client.check_project(name, settings)
        if now.changed or now.created:
            raise Failure(
                f"{name}: not applied, because somebody else changed it in the meantime: see "
                f"`boxsched project history {name} --diff`, then apply it again"
            ) from None
        # The answer to the first attempt was lost, or somebody else has applied the same settings.


def _show(each: Checked, *, dry: bool) -> None:
    click.echo(plain(each.line(dry=dry)))
    if not each.changes or (each.check.created and not dry):
        return
    lines = project_text.differences(each.check.before, each.check.after)
    secrets = project_text.secret_lines(each.check.changed, each.one.settings)
    project_text.show([*lines, *secrets])


def _shown(each: Checked, *, dry: bool) -> dict[str, object]:
    return {
        "name": each.one.name,
        "created": each.check.created,
        "changed": each.check.changed,
        "applied": each.changes and not dry,
    }


@click.command()
@click.argument("names", nargs=-1, metavar="[PROJECT]...")
@as_json_option
@with_service
def export(names: tuple[str, ...], as_json: bool, service: Service) -> None:
    """Print projects in the format of `project apply`.

    Without NAME, print all projects. If you apply the output again, nothing changes. Secrets cannot
    be read and are not included.

    \b
    Example:  boxsched project export > projects.yaml
              boxsched project export web --json
    """

    async def found(client: Client) -> list[Project]:
        return [await client.project(name) for name in names] or await client.projects()

    projects = service.call(found)
    if as_json:
        settings = [{"name": one.name, **project_text.lean(one.settings)} for one in projects]
        print_json({"projects": settings})
        return
    click.echo(NOT_IN_IT, nl=False)
    click.echo(
        "---\n".join(project_text.text(one.name, one.settings) for one in projects), nl=False
    )
