"""``boxsched token``: create, list, revoke."""

from collections.abc import Sequence

import click

from boxsched.cli.clean import plain
from boxsched.cli.confirming import confirm, yes_option
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import InvalidInput
from boxsched.cli.options import FiniteRange
from boxsched.cli.output import ago, as_json_option, local_time, now, print_json, print_table
from boxsched.client import Client, NewToken, Token
from boxsched.errors import Invalid, NotFound

DAY_SECONDS = 86_400
MAX_DAYS = 3_660
MAX_WORKERS = 10_000
WORKER = "worker"
ROLES = ("viewer", "developer", "operator", "admin", WORKER)


@click.group()
def token() -> None:
    """Create, list and revoke API tokens.

    \b
    Example:  boxsched token create --role worker
    """


@token.command()
@click.option(
    "--role",
    type=click.Choice(ROLES),
    required=True,
    help="viewer: reads. developer: also submits, stops builds and sessions, and deploys to the "
    "servers of --server. operator: also deploys to all servers, stops deploys, pauses, manages "
    "workers. admin: also settings, secrets and tokens. worker: only for workers.",
)
@click.option("--name", help="Name of the token in the list.")
@click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="PATTERN",
    help="Only for projects whose names match, for example 'web-*'; can be repeated. "
    "[default: all]",
)
@click.option(
    "--server",
    "servers",
    multiple=True,
    metavar="PATTERN",
    help="Only for servers whose names match; can be repeated. [default: all; with --role "
    "developer: deploys to none]",
)
@click.option(
    "--expires",
    type=FiniteRange(0, MAX_DAYS, min_open=True),
    metavar="DAYS",
    help="Days until the token expires. [default: never]",
)
@click.option(
    "--fleet",
    "max_workers",
    type=click.IntRange(1, MAX_WORKERS),
    metavar="N",
    help="With --role worker: for N workers. [default: only the first worker that connects]",
)
@click.option("--max-workers", "as_before", type=click.IntRange(1, MAX_WORKERS), hidden=True)
@as_json_option
@with_service
def create(
    role: str,
    name: str | None,
    projects: tuple[str, ...],
    servers: tuple[str, ...],
    expires: float | None,
    max_workers: int | None,
    as_before: int | None,
    as_json: bool,
    service: Service,
) -> None:
    """Create a token. It is printed once and cannot be shown again.

    What is not in the scope of a token (--project, --server) does not exist for it. Nobody can
    create a token with a wider scope than the own token has.

    A token for workers belongs to the first worker that connects with it. With --fleet, several
    workers share it.

    \b
    Example:  boxsched token create --role viewer --name dashboard
              boxsched token create --role developer --project web --server staging --expires 90
              boxsched token create --role worker --name ci-4
              boxsched token create --role worker --name autoscaled --fleet 50
    """
    max_workers = max_workers or as_before  # --max-workers is the name of earlier versions
    _check(role, projects, servers, max_workers)
    seconds = None if expires is None else expires * DAY_SECONDS
    made = service.call(
        lambda client: client.create_token(
            role,
            name=name,
            projects=projects or None,
            servers=servers or None,
            expires_in_seconds=seconds,
            max_workers=max_workers,
        )
    )
    if as_json:
        print_json(made)
        return
    click.echo(made.token)  # nothing else on standard output: TOKEN=$(boxsched token create ...)
    click.echo(_what_to_do(made, service), err=True)


def _check(
    role: str, projects: tuple[str, ...], servers: tuple[str, ...], max_workers: int | None
) -> None:
    """Raise InvalidInput for options that do not fit together."""
    if max_workers is not None and role != WORKER:
        raise InvalidInput("--fleet: only with --role worker")
    for option, patterns in (("--project", projects), ("--server", servers)):
        if patterns and role == WORKER:
            raise InvalidInput(f"{option}: not with --role worker: it runs jobs of all projects")
        if "" in patterns:
            raise InvalidInput(f"{option}: must not be empty; without it, the token is for all")


@token.command(name="list")
@as_json_option
@with_service
def list_tokens(as_json: bool, service: Service) -> None:
    """List the tokens that were not revoked, oldest first.

    The texts of tokens are not shown. LIMITS are the patterns of the projects and servers that a
    token is limited to. USED is when it was last used, about a minute exact.

    \b
    Example:  boxsched token list
    """
    if as_json:
        print_json(service.call(lambda client: client.json("tokens")))
        return
    found = service.call(lambda client: client.tokens())
    at = now()
    rows = [
        (
            one.id,
            one.role,
            _limits(one),
            one.name,
            ago(one.created_at, at),
            "never" if one.last_used_at is None else ago(one.last_used_at, at),
            "expired" if one.expires_at and one.expires_at <= at else local_time(one.expires_at),
        )
        for one in found
    ]
    names = ("id", "role", "limits", "name", "created", "used", "expires")
    print_table(names, rows, "there are no tokens")


def _limits(one: Token) -> str:
    """Return what the token is limited to; empty if it has no limits."""
    limits = [] if one.organization is None else [f"organization {one.organization}"]
    if one.projects is not None:
        limits.append(f"projects {' '.join(one.projects)}")
    if one.servers is not None:
        limits.append(f"servers {' '.join(one.servers)}")
    return ", ".join(limits)


@token.command()
@click.argument("token_", metavar="ID")
@yes_option
@with_service
def revoke(token_: str, yes: bool, service: Service) -> None:
    """Revoke a token by its ID, or by its name if no other token has it.

    Within a second no node accepts it, and its connections are closed.

    \b
    Example:  boxsched token revoke token-5b1c0e9a77d2
    """

    async def work(client: Client) -> Token:
        revoked = _find(token_, await client.tokens())
        await client.revoke_token(revoked.id)
        return revoked

    confirm(f"Revoke the token {token_}?", yes=yes)
    revoked = service.call(work)
    of = "" if token_ == revoked.id else f" ({revoked.id})"
    click.echo(f"{plain(token_)}{of}: revoked")
    if revoked.of_file:
        click.echo(
            f"It was the admin token in {plain(revoked.name)}. Commands on that machine are now "
            "refused, also after a restart of the node. To create a new token, delete the file "
            "admin-token in the node's data folder and restart the node.",
            err=True,
        )


def _find(text: str, tokens: Sequence[Token]) -> Token:
    """Return the token with this ID or unique name. Raises NotFound, Invalid."""
    found = [one for one in tokens if one.id == text] or [one for one in tokens if one.name == text]
    if len(found) == 1:
        return found[0]
    listed = "give the ID that `boxsched token list` shows"
    if not found:
        raise NotFound(f"there is no token {text!a}: {listed}")
    raise Invalid(f"{len(found)} tokens have this name: {listed}")


def _what_to_do(made: NewToken, service: Service) -> str:
    until = f"It is valid until {local_time(made.expires_at)}. " if made.expires_at else ""
    revoke = f"Revoke it with: boxsched token revoke {made.id}"
    if made.role != WORKER:
        deploys = made.role != "developer" or made.servers is not None
        hint = "" if deploys else "It cannot deploy: name servers with --server. "
        return f"This is shown once; keep it as a secret. {hint}{until}{revoke}"
    urls, _ = service.find()
    nodes = " ".join(f"--url {plain(url)}" for url in urls)
    return (
        f"This is shown once; keep it as a secret. {until}On the worker's machine:\n"
        f"  boxsched worker {nodes} --token-file FILE --boxes 4 --data DIR\n{revoke}"
    )
