"""``boxsched serve``: the service in this process."""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsched.cli.failing import Failure, InvalidInput, clear_errors
from boxsched.cli.isolating import BoxSettings, choose_boxes
from boxsched.cli.log_store import LogStorePlace, check_log_store
from boxsched.cli.options import (
    FiniteRange,
    box_options,
    boxes_option,
    cache_size_option,
    env_option,
    log_limit_option,
    stop_grace_option,
)
from boxsched.cli.variables import warn_unknown_variables
from boxsched.errors import Invalid
from boxsched.folders import default_data
from boxsched.loglines import log_to_stderr
from boxsched.model import MAX_BOXES, MAX_TUNNELS, Policy
from boxsched.protocol import fingerprint

if TYPE_CHECKING:
    from boxsched.node.options import Options

SQLITE = "sqlite:///"

IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network
MOST_DAYS = 36_500
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Network(click.ParamType[IPNetwork]):
    """An IP network such as ``192.0.2.0/24``, or one address."""

    name = "CIDR"

    def convert(self, value: Any, param: Any, ctx: Any) -> IPNetwork:
        try:
            return ipaddress.ip_network(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class Requirement(click.ParamType[tuple[str, str]]):
    """A part of a worker's fingerprint, and the value that it must have."""

    name = "PART=VALUE"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        try:
            return fingerprint.requirement(value)
        except ValueError as error:
            self.fail(f"{value!r} {error}", param, ctx)


class Days(click.ParamType[int]):
    """Whole days, ``least`` at least, or 0."""

    name = "DAYS"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        try:
            days = int(value)
        except ValueError:
            days = -1
        if days != 0 and not self._least <= days <= MOST_DAYS:
            self.fail(f"{value!r} must be 0, or from {self._least} to {MOST_DAYS} days", param, ctx)
        return days


def check_database(database: str | None, redis: str | None) -> None:
    """Refuse invalid URLs with a message that names the option, but contains no password."""
    from boxsched.store import is_postgres

    if database is not None and not is_postgres(database) and not database.startswith("sqlite:///"):
        raise InvalidInput(
            f"--database: {database.partition(':')[0]!r} is not a kind of database: must be "
            "sqlite:///PATH or postgresql://USER@HOST/NAME"
        )
    if redis is None:
        return
    if database is None or not is_postgres(database):
        raise InvalidInput("--redis: only with --database postgresql://...; omit it with SQLite")
    if not redis.startswith(("redis://", "rediss://", "unix://")):
        raise InvalidInput("--redis: must be redis://HOST:PORT, rediss://HOST:PORT or unix://PATH")
    # Imported here, so that the library is loaded only with --redis.
    from boxsched.cluster.redis_connection import RedisConnection

    try:
        RedisConnection(redis)
    except ValueError:  # its message may contain a part of the password
        raise InvalidInput(
            "--redis: must be redis://USER:PASSWORD@HOST:PORT/NUMBER, without unknown options; "
            "in the password write %2F for /, %23 for # and %3F for ?"
        ) from None


def check_cluster(database: str | None, shards: int) -> None:
    from boxsched.store import is_postgres

    if shards > 1 and (database is None or not is_postgres(database)):
        raise InvalidInput("--shards: SQLite has one node, and one shard")


def check_advertise(url: str | None) -> None:
    if url is None:
        return
    from boxsched.client.http import address

    try:
        address(url)
    except Invalid as error:
        raise InvalidInput(f"--advertise: {error.message}") from None


def check_external(url: str | None) -> None:
    from boxsched.outgoing.targets import host_of

    if url is None:
        return
    try:
        host_of(url, "--external-url")
    except Invalid as error:
        raise InvalidInput(f"--external-url: {error.message}") from None


def check_outgoing(hosts: Sequence[str]) -> None:
    """Refuse a URL or a port: only a host name or an address can match."""
    for host in hosts:
        is_ipv6 = host.count(":") > 1
        if not host.strip() or "/" in host or (":" in host and not is_ipv6):
            raise InvalidInput(f"--allow-outgoing: {host!r} must be a host name or an address")


def run(options: "Options") -> None:
    """Serve until a signal. An error that prevents the start ends the command."""
    from boxsched.service import serve as serve_node

    run_loop(lambda: serve_node(options), options)


def run_loop(work: Callable[[], Any], options: "Options") -> None:
    """Run a coroutine on the fastest event loop; print the service's errors as messages."""
    from boxsched.api.auth.tokens import UnsafeToken
    from boxsched.store import is_postgres
    from boxsched.worker.supervisor.containment import hide_memory

    hide_memory()  # in it, and in its environment: keys of secrets, passwords of databases
    log_to_stderr(logging.WARNING)
    if is_postgres(options.database_url):  # with several nodes, the log shows who leads
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
    """Return the fastest event loop on this platform; None: asyncio's own."""
    try:
        import uvloop
    except ImportError:  # it is not available on every platform
        return None
    return uvloop.new_event_loop


@click.command()
@env_option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data folder: database, logs, admin token, worker state. [default: the user's]",
)
@env_option(
    "--database",
    metavar="URL",
    help="sqlite:///PATH or postgresql://USER@HOST/NAME. [default: SQLite in the data folder]",
)
@env_option(
    "--redis",
    metavar="URL",
    help="redis://HOST:PORT, so that nodes notify each other at once. [default: they poll]",
)
@env_option("--host", default="127.0.0.1", help="Address to listen on.")
@env_option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    help="Port to listen on; 0 picks a free one.",
)
@env_option(
    "--trusted-proxy",
    multiple=True,
    type=Network(),
    help="Load balancer whose X-Forwarded-For is trusted; can be repeated.",
)
@env_option(
    "--connections-per-address",
    type=click.IntRange(0),
    default=1_000,
    metavar="N",
    help="Limit of open connections from one address, except a trusted proxy; 0 = no limit.",
)
@env_option(
    "--tunnels-per-token",
    type=click.IntRange(1, MAX_TUNNELS),
    default=50,
    metavar="N",
    help="Limit of one token's connections into SSH sessions through this node.",
)
@boxes_option(0, "Boxes of the in-process worker; 0 = none.")
@box_options
@env_option(
    "--allow-mixed/--no-allow-mixed",
    default=False,
    help="Accept external workers in addition to in-process Boxes.",
)
@env_option(
    "--policy",
    type=click.Choice([policy.value for policy in Policy]),
    help="Which workloads may start before the first one that does not fit.  [default: as it is; "
    "backfill at first]",
)
@env_option(
    "--max-boxes",
    type=click.IntRange(0, MAX_BOXES),
    metavar="N",
    help="The plan: limit of Boxes in use. [default: as it is; no limit at first]",
)
@env_option(
    "--priority-aging",
    type=FiniteRange(min=0, min_open=True),
    metavar="S",
    help="After this many seconds of waiting, priority grows by one point. [default: as it is; off "
    "at first]",
)
@log_limit_option()
@env_option(
    "--log-store",
    type=LogStorePlace(),
    metavar="DIR|s3://BUCKET[/PREFIX]",
    help="Folder or S3 bucket for artifacts, and for the logs of jobs that have ended, instead of "
    "the database; the same for all nodes (a folder: on a shared file system). A bucket needs "
    "`pip install 'boxsched[s3]'`, and credentials as for other AWS programs: environment, profile "
    "or role, never an option. [default: logs are in the database; artifacts, too, or with SQLite "
    "in the data folder]",
)
@env_option(
    "--log-store-endpoint",
    metavar="URL",
    help="Address of an S3-compatible service (MinIO, Ceph) for --log-store. [default: "
    "AWS_ENDPOINT_URL, else AWS]",
)
@env_option(
    "--artifact-limit",
    type=click.IntRange(1),
    default=1 << 30,
    metavar="BYTES",
    help="Size limit of an artifact.",
)
@env_option(
    "--artifact-total",
    type=click.IntRange(1),
    default=4 << 30,
    metavar="BYTES",
    help="Size limit of all artifacts of a job together.",
)
@cache_size_option()
@env_option(
    "--keep-history",
    type=Days(least=8),
    default=90,
    metavar="DAYS",
    help="Days after which finished workloads are deleted, with their events; 0 = never.",
)
@env_option(
    "--keep-logs",
    type=Days(least=1),
    default=30,
    metavar="DAYS",
    help="Days after which logs and artifacts of finished workloads are deleted; 0 = never.",
)
@stop_grace_option
@env_option(
    "--shutdown-grace",
    type=FiniteRange(min=0, min_open=True),
    default=8.0,
    metavar="S",
    help="Seconds that running requests may take when the service ends.",
)
@env_option(
    "--lost-after",
    type=FiniteRange(min=5),
    default=120.0,
    metavar="S",
    help="Seconds without an answer from a node after which a worker ends its builds; they then "
    "run on another worker.",
)
@env_option(
    "--require-worker",
    multiple=True,
    type=Requirement(),
    help="Part of a worker's fingerprint and the value that it must have, such as "
    "box_driver=process; other workers get no new jobs. Can be repeated.",
)
@env_option(
    "--secrets-key-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="File with the keys that seal secrets, the same on every node. [default: "
    "BOXSCHED_SECRETS_KEY; with "
    "SQLite a key in the data folder]",
)
@env_option(
    "--allow-outgoing",
    multiple=True,
    metavar="HOST",
    help="Allow hooks and commit statuses to this host, even if its address is private or local; "
    "can be repeated.",
)
@env_option(
    "--external-url",
    metavar="URL",
    help="URL of the Activity Monitor for users, in links of commit statuses. [default: "
    "--advertise, or the address that it listens on]",
)
@env_option(
    "--name",
    metavar="NAME",
    help="Name of this node. [default: generated once, kept in the data folder]",
)
@env_option(
    "--advertise",
    metavar="URL",
    help="URL at which others reach this node. [default: the address that it listens on]",
)
@env_option(
    "--shards",
    type=click.IntRange(1, 256),
    default=1,
    help="Shards, made in advance for the next organizations; the number can only grow.",
)
@env_option(
    "--lock-key",
    default="BxSchLd1",
    metavar="TEXT",
    help="Equal on all nodes of a cluster; different for each cluster on one database server.",
)
@env_option(
    "--retry-interval",
    type=FiniteRange(min=0.1),
    default=5.0,
    metavar="S",
    help="Longest time between two attempts to lead or to start while the database is down.",
)
def serve(
    data: Path | None, policy: str | None, trusted_proxy: tuple[IPNetwork, ...], **options: Any
) -> None:
    """Run the service: API, Activity Monitor and in-process worker, until Ctrl-C or SIGTERM.

    When it is ready, it prints `listening on http://HOST:PORT`, and on standard error its data
    folder and the file with the token for signing in. When it ends, running jobs continue; the next
    start finds them again. Every option is also an environment variable: --max-boxes is
    BOXSCHED_MAX_BOXES.

    With PostgreSQL, any number of nodes can serve together behind a load balancer. Each node needs
    its own data folder.

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
    check_log_store(options["log_store"], options["log_store_endpoint"], "--log-store")
    from boxsched.node.options import Options

    data = data or default_data()
    how = in_process_boxes(data, options)
    made = Options(
        data=data,
        policy=None if policy is None else Policy(policy),
        trusted_proxies=trusted_proxy,
        box_driver=how.driver,
        isolation=how.isolation,
        limits=how.limits,
        images=how.images,
        not_isolated=how.problem,
        **options,
    )
    differs = fingerprint.differences(fingerprint.parts(made.fingerprint), made.required)
    if differs and made.box_count:
        raise InvalidInput(f"--require-worker: this node's own Boxes differ: {'; '.join(differs)}")
    run(made)


def in_process_boxes(data: Path, options: dict[str, Any]) -> BoxSettings:
    """Take the options about Boxes out of ``options``; return how jobs of this process run."""
    hidden = [data]
    if (key_file := options.get("secrets_key_file")) is not None:
        hidden.append(key_file)
    if isinstance(log_store := options.get("log_store"), Path):
        hidden.append(log_store)
    database = options.get("database") or ""
    if database.startswith(SQLITE):
        hidden.append(Path(database.removeprefix(SQLITE)).parent)  # with its journals
    return choose_boxes(options, hidden=hidden, repositories=True)
