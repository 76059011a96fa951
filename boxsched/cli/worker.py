"""``boxsched worker``: Boxes on this machine for a service on another machine."""

import asyncio
import logging
import os
import random
import signal
import socket
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsched.cli import token_source
from boxsched.cli.failing import Failure, InvalidInput
from boxsched.cli.isolating import BoxSettings, choose_boxes, secret_files, unisolated
from boxsched.cli.options import (
    MIB,
    box_options,
    boxes_option,
    cache_size_option,
    env_option,
    log_limit_option,
    stop_grace_option,
)
from boxsched.cli.output import as_json_option
from boxsched.cli.serve import loop_factory
from boxsched.cli.variables import warn_unknown_variables
from boxsched.cli.worker_check import check_worker
from boxsched.client.finding import read_token
from boxsched.loglines import log_to_stderr

if TYPE_CHECKING:
    from boxsched.worker.remote.discovery import Source
    from boxsched.worker.remote.tls import TlsFiles
    from boxsched.worker.remote.worker import RemoteWorker, WorkerOptions

MAX_LOG_LIMIT_BYTES = 1_000 * MIB  # nodes accept offsets of up to 1 GiB
MAX_NAME_CHARACTERS = 255
_log = logging.getLogger(__name__)
_WHERE_FROM = "create one with `boxsched token create --role worker`"


@click.command()
@env_option(
    "--url",
    multiple=True,
    metavar="URL",
    help="URL of a node, or a name with the addresses of several nodes; can be repeated.",
)
@env_option(
    "--token", metavar="TOKEN", help="Token of role worker. Other users of this machine can see it."
)
@env_option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File with the token; read again for each connection.",
)
@env_option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data folder of this worker only: its identity and its jobs.",
)
@env_option(
    "--ca-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Certificates (PEM) of the authorities that sign the nodes' certificates. [default: "
    "those of this machine]",
)
@env_option(
    "--client-certificate",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="This worker's certificate (PEM), for a load balancer that requires one.",
)
@env_option(
    "--client-key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Its private key (PEM). [default: in the file of --client-certificate]",
)
@env_option("--name", metavar="NAME", help="Name in lists. [default: this machine's name]")
@boxes_option(1, "Number of jobs at a time.")
@env_option(
    "--box-type",
    default="default",
    metavar="TYPE",
    help="Type of these Boxes, for jobs that require it.",
)
@box_options
@log_limit_option(MAX_LOG_LIMIT_BYTES)
@cache_size_option()
@stop_grace_option
@click.option(
    "--check", is_flag=True, help="Try everything that this worker needs, say what is wrong, end."
)
@as_json_option
def worker(
    url: tuple[str, ...],
    token: str | None,
    token_file: Path | None,
    check: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Run jobs of a service on this machine, until Ctrl-C or SIGTERM.

    It connects to one node, and to another one when that connection ends. Nothing connects to it
    but users of SSH sessions, at --ssh-address.
    A URL is https://HOST[:PORT]; each address of the name is a node.
    srv+https://_boxsched._tcp.DOMAIN means the SRV records of that name. Names are resolved again
    every 30 seconds. When it is first connected, it prints `connected to URL`.

    When it ends, running jobs continue; the next start on the same data folder finds them again. If
    no node answers for too long (--lost-after of the service), a build is ended, and runs again on
    another worker.

    --check tries the data folder and what runs jobs, asks every node whether it would accept this
    worker, and exits with status 1 if something is wrong. No job is run, no worker is registered,
    and the token is not taken.

    Every option is also an environment variable: --box-type is BOXSCHED_BOX_TYPE, and several URLs
    in BOXSCHED_URL are separated by commas.

    \b
    Example:
      boxsched token create --role worker           (on the machine of the service)
      export BOXSCHED_TOKEN=...
      boxsched worker --url https://ci.example.org --boxes 4 --data /var/lib/boxsched-worker
    """
    from boxsched.worker.remote.worker import WorkerOptions
    from boxsched.worker.supervisor.containment import hide_memory

    hide_memory()  # the token is in it, and in its environment
    warn_unknown_variables()
    sources = _sources(url)
    read_token = _token(token, token_file)
    name = options.pop("name") or socket.gethostname()
    for option, text in (("--name", name), ("--box-type", options["box_type"])):
        if not text.isprintable() or not 0 < len(text) <= MAX_NAME_CHARACTERS:
            raise InvalidInput(f"{option}: must be 1 to {MAX_NAME_CHARACTERS} printable characters")
    if options["data"] is None:
        raise InvalidInput(
            "--data: required: a folder of this worker only, for its identity and jobs"
        )
    if as_json and not check:
        raise InvalidInput("--json: only with --check")
    tls = _tls(options)
    boxes = options.pop("boxes") or os.cpu_count() or 1

    def settle(how: BoxSettings) -> WorkerOptions:
        return WorkerOptions(
            token=read_token,
            name=name,
            boxes=boxes,
            tls=tls,
            box_driver=how.driver,
            isolation=how.isolation,
            limits=how.limits,
            images=how.images,
            **options,
        )

    if check:
        check_worker(sources, read_token, tls, options, token_file, settle=settle, as_json=as_json)
        return
    hidden = secret_files(options["data"], token_file, tls)
    how = choose_boxes(options, hidden=hidden, box_type=options["box_type"])
    log_to_stderr(logging.INFO)
    if how.problem is not None:
        _log.warning("%s", unisolated(how.problem))
    _run(sources, settle(how))


def _sources(urls: Iterable[str]) -> "list[Source]":
    from boxsched.worker.remote.discovery import parse_source

    texts = [text for url in urls for text in url.replace(",", " ").split()]
    if not texts:
        raise InvalidInput("--url: required: the URL of a node, such as https://ci.example.org")
    try:
        return [parse_source(text) for text in texts]
    except ValueError as error:
        raise InvalidInput(f"--url: {error}") from None


def _tls(options: dict[str, Any]) -> "TlsFiles":
    """Take the options about TLS out of ``options``."""
    from boxsched.worker.remote.tls import BadTlsFile, TlsFiles

    files = TlsFiles(
        options.pop("ca_file"), options.pop("client_certificate"), options.pop("client_key")
    )
    if files.key is not None and files.certificate is None:
        raise InvalidInput("--client-key: only with --client-certificate")
    try:
        files.context()
    except BadTlsFile as error:
        raise InvalidInput(str(error)) from None
    return files


def _token(token: str | None, file: Path | None) -> Callable[[], str]:
    """Return a function that reads the token for each connection."""
    from boxsched.worker.remote.link import RefusedByNode

    token, file = token_source.choose(token, file)

    def read_again() -> str:
        try:
            return read_token(token, file)
        except (OSError, ValueError) as error:
            raise RefusedByNode(f"cannot read the token: {error}") from None

    try:
        read_token(token, file)
    except OSError as error:
        raise InvalidInput(f"--token-file: cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        option = "--token-file" if file is not None else "--token-file or BOXSCHED_TOKEN"
        raise InvalidInput(f"{option}: {error}; {_WHERE_FROM}") from None
    return read_again


def _run(sources: "list[Source]", options: "WorkerOptions") -> None:
    """Run the worker until a signal. An error that prevents the start ends the command."""
    from boxsched.worker.agent.site import FolderInUse, JobsLeftBehind
    from boxsched.worker.remote.discovery import Discovery, NodeAddress, SystemNames
    from boxsched.worker.remote.identity import Unusable
    from boxsched.worker.remote.link import RefusedByNode
    from boxsched.worker.remote.pace import Pace
    from boxsched.worker.remote.worker import RemoteWorker

    def connected(node: NodeAddress) -> None:
        print(f"connected to {node.url}", flush=True)

    remote = RemoteWorker(
        options,
        Discovery(sources, SystemNames()),
        connected=connected,
        chance=random.SystemRandom(),
        pace=Pace(),
    )
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_until_signalled(remote))
    except (RefusedByNode, FolderInUse, JobsLeftBehind, Unusable) as error:
        raise Failure(str(error)) from None
    except OSError as error:
        where = error.filename or options.data
        raise Failure(f"cannot use {where}: {error.strerror}; choose with --data") from None


async def _until_signalled(remote: "RemoteWorker") -> None:
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, _stop, remote)
    await remote.run()


def _stop(remote: "RemoteWorker") -> None:
    from boxsched.worker.agent.agent import continuing_jobs_text

    if remote.jobs:
        click.echo(continuing_jobs_text(remote.jobs), err=True)
    remote.stop()
