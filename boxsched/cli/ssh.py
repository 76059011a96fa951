"""``boxsched ssh``: open a session and enter it, or run a command in it."""

import asyncio
import shutil
import sys
from pathlib import Path

import attrs
import click
from msgspec import UNSET

from boxsched import errors
from boxsched.cli import naming
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.waiting import PATIENCE_SECONDS, Trouble, named, say_why
from boxsched.client import Client, Workload
from boxsched.client.records import SshEndpoint
from boxsched.model import MAX_PRIORITY, MIN_PRIORITY

LOOK_SECONDS = 0.3
HOST_SUFFIX = ".boxsched"  # of the names of hosts in a configuration of OpenSSH


@attrs.frozen
class Wish:
    """What to open, and what to do in it."""

    project: str
    branch: str | None
    build: str | None
    box_type: str | None
    priority: int | None
    identity: Path | None
    command: str | None
    terminal: bool


@click.command()
@click.argument("project", required=False)
@click.argument("command", nargs=-1)
@click.option("--branch", help="Branch whose code to open.")
@click.option("--build", "of_build", metavar="ID", help="Finished build or deploy to open.")
@click.option(
    "--identity",
    "-i",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEYFILE",
    help="Private key to enter with. [default: one of ~/.ssh without a passphrase, or a new one]",
)
@click.option("--box-type", metavar="TYPE", help="Type of Box.")
@click.option(
    "--priority",
    type=click.IntRange(MIN_PRIORITY, MAX_PRIORITY),
    metavar="N",
    help="0 to 100, higher first. [default: 80]",
)
@click.option("--tty", "-t", is_flag=True, help="Give COMMAND a terminal.")
@click.option(
    "--proxy",
    metavar="ID",
    help="Connect standard input and output to an open session, through the service: for the "
    "option ProxyCommand of OpenSSH.",
)
@click.option(
    "--host-key",
    metavar="ID",
    help="Print the host key of an open session as a line for known_hosts: for the option "
    "KnownHostsCommand of OpenSSH.",
)
@with_service
def ssh(
    service: Service,
    project: str | None,
    command: tuple[str, ...],
    branch: str | None,
    of_build: str | None,
    identity: Path | None,
    box_type: str | None,
    priority: int | None,
    tty: bool,
    proxy: str | None,
    host_key: str | None,
) -> None:
    """Open an SSH session of PROJECT and enter it, or run COMMAND in it.

    It waits for a Box, and says why. The session has the code of a branch, or of a finished build
    or deploy. It ends when its shell or COMMAND ends; the exit status is that of COMMAND, or 255.
    As with OpenSSH, the words of COMMAND are joined by spaces, and the shell in the Box reads them.

    To use OpenSSH's programs with an open session (ssh, sftp, scp, editors), put this into
    ~/.ssh/config; then `ssh w41.boxsched` enters the session w41 through the service:

    \b
      Host *.boxsched
        User box
        IdentityFile ~/.ssh/id_ed25519
        ProxyCommand boxsched ssh --proxy %n
        KnownHostsCommand /usr/local/bin/boxsched ssh --host-key %H

    \b
    Example:  boxsched ssh web --branch main
              boxsched ssh web --build web#41 -- make test
    """
    if proxy is not None or host_key is not None:
        if project is not None or (proxy is not None and host_key is not None):
            raise click.UsageError("--proxy and --host-key allow no other argument")
        _serve_openssh(service, proxy, host_key)
        return
    if project is None:
        raise click.UsageError("Missing argument 'PROJECT'.")
    if (branch is None) == (of_build is None):
        raise click.UsageError("name the code: either --branch or --build")
    wish = Wish(
        project,
        branch,
        of_build,
        box_type,
        priority,
        identity,
        " ".join(command) or None,
        tty or (not command and sys.stdin.isatty()),
    )
    status = _open(service, wish)
    if status:
        raise click.exceptions.Exit(status)


def _open(service: Service, wish: Wish) -> int:
    from boxsched.cli.ssh_client import enter
    from boxsched.cli.ssh_keys import BadKey, chosen_key  # its library is slow to import

    try:
        key = chosen_key(wish.identity)
    except BadKey as error:
        raise InvalidInput(f"--identity: {error}") from None

    async def work(client: Client) -> int:
        build = None if wish.build is None else await naming.workload_id(client, wish.build)
        workload = await client.session(
            wish.project,
            public_key=key.public,
            branch=wish.branch,
            build=build,
            box_type=wish.box_type,
            priority=wish.priority,
        )
        try:
            endpoint = await _opened(client, workload)
            return await enter(client, workload.id, endpoint, key, wish.command, wish.terminal)
        except asyncio.CancelledError:
            await _give_up(client, workload)
            raise

    return service.call(work)


async def _opened(client: Client, workload: Workload) -> SshEndpoint:
    """Wait until the session can be entered; say why it waits. Raises Failure if it ends."""
    client.patience, client.on_trouble = PATIENCE_SECONDS, Trouble()
    saying = asyncio.create_task(say_why(client, workload))
    try:
        while True:
            now = await client.workload(workload.id)
            if now.ssh is not UNSET and now.ssh is not None:
                return now.ssh
            if now.finished:
                reasons = [now.reason, *(job.reason for job in now.jobs)]
                why = next((reason for reason in reasons if reason), "it ended")
                raise Failure(f"{named(now)} {now.result}: {plain(why)}")
            await asyncio.sleep(LOOK_SECONDS)
    finally:
        saying.cancel()
        await asyncio.gather(saying, return_exceptions=True)


async def _give_up(client: Client, workload: Workload) -> None:
    """Stop a session that its user does not wait for any more."""
    client.patience = 0.0
    try:
        await client.stop(workload.id)
    except errors.Conflict:
        return  # it has ended
    except errors.BoxschedError as error:
        click.echo(f"boxsched: {named(workload)} was not stopped: {plain(error.message)}", err=True)


# --- For OpenSSH ----------------------------------------------------------------------------


def _serve_openssh(service: Service, proxy: str | None, host_key: str | None) -> None:
    from boxsched.cli.piping import join_stdio, lost_text
    from boxsched.cli.serve import loop_factory

    async def carry(client: Client) -> None:
        id_ = await _session_id(client, str(proxy))
        async with client.ssh_tunnel(id_) as tunnel:
            why = await join_stdio(tunnel)
        if why is not None:
            raise Failure(lost_text(id_, why))

    async def find(client: Client) -> str:
        found = await client.workload(await _session_id(client, str(host_key)))
        if found.ssh is UNSET or found.ssh is None:
            raise errors.Conflict(f"{named(found)} is not an open SSH session")
        return f"{host_key} {found.ssh.host_key}"

    if proxy is not None:
        service.call(carry, loop_factory())
    else:
        click.echo(service.call(find))


async def _session_id(client: Client, name: str) -> str:
    return await naming.workload_id(client, name.removesuffix(HOST_SUFFIX))


def how_to_enter(workload: Workload) -> list[str]:
    """Return command lines that enter an open session: through the service, and directly."""
    endpoint = workload.ssh
    if endpoint is UNSET or endpoint is None:
        return []
    proxy = f"{shutil.which('boxsched') or 'boxsched'} ssh --proxy {workload.id}"
    name = f"{workload.id}{HOST_SUFFIX}"
    lines = [f"ssh -o ProxyCommand='{proxy}' {endpoint.user}@{name}"]
    if endpoint.host is not None:
        lines.append(f"ssh -p {endpoint.port} {endpoint.user}@{endpoint.host}")
    return [plain(line) for line in lines]
