"""``boxsched secrets``: list, set, delete, rotate."""

from pathlib import Path
from typing import IO

import click

from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.output import ago, as_json_option, now, print_json, print_table

MAX_VALUE_BYTES = 65_536


@click.group()
def secrets() -> None:
    """List, set and delete the secrets of a project. Its jobs get them.

    A value is sealed before it is stored, and cannot be shown again.

    \b
    Example:  boxsched secrets set web DEPLOY_TOKEN < token.txt
    """


@secrets.command(name="list")
@click.argument("project")
@as_json_option
@with_service
def list_secrets(project: str, as_json: bool, service: Service) -> None:
    """List the secrets of PROJECT by name, without their values.

    \b
    Example:  boxsched secrets list web
    """
    if as_json:
        print_json(service.call(lambda client: client.json("projects", project, "secrets")))
        return
    found = service.call(lambda client: client.secrets(project))
    at = now()
    rows = [
        (one.name, "file" if one.file else "variable", str(one.version), ago(one.updated_at, at))
        for one in found
    ]
    print_table(("name", "given as", "version", "set"), rows, "there are no secrets")


@secrets.command(name="set")
@click.argument("project")
@click.argument("name")
@click.option(
    "--file", "as_file", is_flag=True, help="Jobs get the value as a file; NAME contains its path."
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    metavar="PATH",
    help="Read the value from this file. [default: standard input]",
)
@with_service
def set_secret(
    project: str, name: str, as_file: bool, source: Path | None, service: Service
) -> None:
    """Set the secret NAME of PROJECT, from standard input or a file.

    The value is never an argument: other users of the machine could read it there. One newline at
    the end of the value is removed, unless jobs get it as a file.

    \b
    Examples:
      boxsched secrets set web DEPLOY_TOKEN < token.txt
      boxsched secrets set web SSH_KEY --file --from ~/.ssh/deploy
    """
    value = _value(source)
    if not as_file:
        value = value.removesuffix("\n").removesuffix("\r")
    done = service.call(lambda client: client.set_secret(project, name, value, file=as_file))
    click.echo(f"{plain(project)}/{plain(name)}: set, version {done.version}")
    if done.masked is False:
        click.echo("It is too short to be masked: job logs show it.", err=True)


@secrets.command()
@click.argument("project")
@click.argument("name")
@yes_option
@with_service
def delete(project: str, name: str, yes: bool, service: Service) -> None:
    """Delete the secret NAME of PROJECT. Jobs that have begun keep it.

    \b
    Example:  boxsched secrets delete web DEPLOY_TOKEN
    """
    confirm(f"Delete the secret {name} of {project}?", yes=yes)
    service.call(lambda client: client.delete_secret(project, name))
    click.echo(f"{plain(project)}/{plain(name)}: deleted")


@secrets.command()
@as_json_option
@with_service
def rotate(as_json: bool, service: Service) -> None:
    """Seal every value again with the first key of the service.

    First add the new key after the old key in the key file of every node, and restart the nodes.
    Then make the new key the first one, and restart them again. After the rotation you can remove
    the old key. If a rotation was interrupted, run it again.

    \b
    Example:  boxsched secrets rotate
    """
    done = service.call(lambda client: client.rotate_secrets())
    if as_json:
        print_json(done)
    else:
        click.echo(f"{done.resealed} values sealed again")
    if done.unusable:
        names = ", ".join(map(plain, done.unusable))
        raise Failure(f"these values cannot be opened with the keys of the service: {names}")


def _value(source: Path | None) -> str:
    file: IO[bytes]
    with click.open_file("-", "rb") if source is None else source.open("rb") as file:
        data = file.read(MAX_VALUE_BYTES + 3)
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput("the value must be UTF-8 text: encode other data in base64") from None
