"""``boxsched serve``: the service in this process."""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsched.cli.failing import BadInput, Failure, clear_errors
from boxsched.cli.options import (
    FiniteRange,
    box_driver_option,
    boxes_option,
    log_limit_option,
    served_by_option,
    stop_grace_option,
)
from boxsched.cli.variables import warn_unknown_variables
from boxsched.errors import Invalid
from boxsched.folders import default_data
from boxsched.loglines import log_to_stderr
from boxsched.model import MAX_BOXES, Policy

if TYPE_CHECKING:
    from boxsched.node.options import Options

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Network(click.ParamType[IPNetwork]):
    """``192.0.2.0/24``, or one address."""

    name = "CIDR"

    def convert(self, value: Any, param: Any, ctx: Any) -> IPNetwork:
        try:
            return ipaddress.ip_network(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def check_database(database: str | None, redis: str | None) -> None:
    """Refuses what cannot be used, with a sentence that names the option; never a password."""
    from boxsched.store import is_postgres

    if database is not None and not is_postgres(database) and not database.startswith("sqlite:///"):
        raise BadInput(
            f"--database: {database.partition(':')[0]!r} is not a kind of database: give "
            "sqlite:///PATH or postgresql://USER@HOST/NAME"
        )
    if redis is None:
        return
    if database is None or not is_postgres(database):
        raise BadInput("--redis: only with --database postgresql://...; leave it out with SQLite")
    if not redis.startswith(("redis://", "rediss://", "unix://")):
        raise BadInput("--redis: give redis://HOST:PORT, rediss://HOST:PORT or unix://PATH")
    # Only here: without --redis its library is not loaded.
    from boxsched.cluster.redis_connection import RedisConnection

    try:
        RedisConnection(redis)
    except ValueError:  # what it says may quote some of a password
        raise BadInput(
            "--redis: no URL of a Redis: give redis://USER:PASSWORD@HOST:PORT/NUMBER, with %2F for "
            "a / in the password, %23 for a # and %3F for a ?, and no options that are unknown"
        ) from None


def check_cluster(database: str | None, shards: int) -> None:
    from boxsched.store import is_postgres

    if shards > 1 and (database is None or not is_postgres(database)):
        raise BadInput("--shards: SQLite has one node, and one shard")


def check_advertise(url: str | None) -> None:
    if url is None:
        return
    from boxsched.client.http import address

    try:
        address(url)
    except Invalid as error:
        raise BadInput(f"--advertise: {error.message}") from None


def check_external(url: str | None) -> None:
    from boxsched.outgoing.targets import host_of

    if url is None:
        return
    try:
        host_of(url, "--external-url")
    except Invalid as error:
        raise BadInput(f"--external-url: {error.message}") from None


def check_outgoing(hosts: Sequence[str]) -> None:
    """A host is a name or an address; a URL or a port would match nothing."""
    for host in hosts:
        is_ipv6 = host.count(":") > 1
        if not host.strip() or "/" in host or (":" in host and not is_ipv6):
            raise BadInput(f"--allow-outgoing: {host!r} is not a host: give a name or an address")


def run(options: "Options") -> None:
    """Serve until a signal ends it; what keeps it from starting ends the command."""
    from boxsched.service import serve as serve_node

    run_loop(lambda: serve_node(options), options)


def run_loop(work: Callable[[], Any], options: "Options") -> None:
    """Run a coroutine on the fastest loop there is, with the service's errors made clear."""
    from boxsched.api.auth.tokens import UnsafeToken
    from boxsched.store import is_postgres

    log_to_stderr(logging.WARNING)
    if is_postgres(options.database_url):  # who leads is what one looks for first
        logging.getLogger("boxsched").setLevel(logging.INFO)
    with clear_errors():
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(work())
        except UnsafeToken as error:
            raise Failure(str(error)) from None
        except OSError as error:
            raise Failure(_why_not(error, options)) from None


def _why_not(error: OSError, options: "Options") -> str:
    if error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}; choose a folder with --data"
    return (
        f"cannot listen on {options.host}:{options.port}: {error.strerror}; "
        "choose with --host and --port (0 picks a free port)"
    )


def loop_factory() -> LoopFactory | None:
    """The fastest loop there is on this platform; None = Python's own."""
    try:
        import uvloop
    except ImportError:  # not made for every platform
        return None
    return uvloop.new_event_loop


@click.command()
@served_by_option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data folder: database, logs, admin token, worker state. [default: the user's]",
)
@served_by_option(
    "--database",
    metavar="URL",
    help="sqlite:///PATH or postgresql://USER@HOST/NAME. [default: SQLite in the data folder]",
)
@served_by_option(
    "--redis",
    metavar="URL",
    help="redis://HOST:PORT, to make nodes hear of each other at once. [default: they poll]",
)
@served_by_option("--host", default="127.0.0.1", help="Where to listen.")
@served_by_option(
    "--port", type=click.IntRange(0, 65_535), default=8080, help="0 picks a free one."
)
@served_by_option(
    "--trusted-proxy",
    multiple=True,
    type=Network(),
    help="Believe this load balancer's X-Forwarded-For; may be given several times.",
)
@served_by_option(
    "--connections-per-address",
    type=click.IntRange(0),
    default=1_000,
    metavar="N",
    help="Most that one address may have open, but a trusted proxy; 0 = no limit.",
)
@boxes_option(0, "Boxes of the in-process worker; 0 = none.")
@box_driver_option
@served_by_option(
    "--allow-mixed/--no-allow-mixed",
    default=False,
    help="Take external workers beside in-process Boxes.",
)
@served_by_option(
    "--policy",
    type=click.Choice([policy.value for policy in Policy]),
    default=Policy.BACKFILL.value,
    help="What may go ahead of the first workload that does not fit.",
)
@served_by_option(
    "--max-boxes",
    type=click.IntRange(0, MAX_BOXES),
    metavar="N",
    help="The plan: never more Boxes than this in use. [default: no limit]",
)
@served_by_option(
    "--priority-aging",
    type=FiniteRange(min=0, min_open=True),
    metavar="S",
    help="Seconds of waiting that one point of priority is worth. [default: off]",
)
@log_limit_option()
@stop_grace_option
@served_by_option(
    "--shutdown-grace",
    type=FiniteRange(min=0, min_open=True),
    default=8.0,
    metavar="S",
    help="Seconds that requests under way have when the service ends.",
)
@served_by_option(
    "--lost-after",
    type=FiniteRange(min=5),
    default=120.0,
    metavar="S",
    help="Seconds without a node after which a worker ends its builds, to be given again.",
)
@served_by_option(
    "--secrets-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Keys that seal secrets, the same on every node. [default: BOXSCHED_SECRETS_KEY; with "
    "SQLite a key in the data folder]",
)
@served_by_option(
    "--allow-outgoing",
    multiple=True,
    metavar="HOST",
    help="Let hooks and commit statuses go to this host though its address is private or local; "
    "may be given several times.",
)
@served_by_option(
    "--external-url",
    metavar="URL",
    help="Where people reach the Activity Monitor, for links in commit statuses. [default: "
    "--advertise, or where it listens]",
)
@served_by_option(
    "--name",
    metavar="NAME",
    help="This node's, among others. [default: made once, kept in the data folder]",
)
@served_by_option(
    "--advertise",
    metavar="URL",
    help="Where others reach this node. [default: where it listens]",
)
@served_by_option(
    "--shards",
    type=click.IntRange(1, 256),
    default=1,
    help="Shares of the organizations, each led by one node; the number only grows.",
)
@served_by_option(
    "--lock-key",
    default="BxSchLd1",
    metavar="TEXT",
    help="The same on all nodes; another one for each cluster that shares the database.",
)
@served_by_option(
    "--retry-interval",
    type=FiniteRange(min=0.1),
    default=5.0,
    metavar="S",
    help="Most seconds between two tries to lead, or to start, while the database is away.",
)
def serve(
    data: Path | None, policy: str, trusted_proxy: tuple[IPNetwork, ...], **options: Any
) -> None:
    """Run the service: API, Activity Monitor and in-process worker, until Ctrl-C or SIGTERM.

    When it is ready it prints `listening on http://HOST:PORT`, and on standard error its data
    folder and the file with the token to sign in with. Jobs that run when it ends go on, and are
    found again by the next start. Every option is also an environment variable: --max-boxes is
    BOXSCHED_MAX_BOXES.

    With PostgreSQL any number of nodes serve together, behind a load balancer; each needs a data
    folder of its own, and leads what no other leads.

    \b
    Examples:
      boxsched serve --boxes 4 --port 8080
      boxsched serve --database postgresql://boxsched@db/boxsched --redis redis://cache --boxes 0
    """
    warn_unknown_variables()
    check_database(options["database"], options["redis"])
    check_cluster(options["database"], options["shards"])
    check_advertise(options["advertise"])
    check_external(options["external_url"])
    check_outgoing(options["allow_outgoing"])
    from boxsched.node.options import Options

    run(
        Options(
            data=data or default_data(),
            policy=Policy(policy),
            trusted_proxies=trusted_proxy,
            **options,
        )
    )
