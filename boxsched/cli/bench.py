"""``boxsched bench``."""

import asyncio
import contextlib
import sys
from collections.abc import Sequence
from typing import Any

import click
from yarl import URL

from boxsched.bench import figures
from boxsched.bench.core import report as core_report
from boxsched.bench.load import BenchTarget
from boxsched.bench.service import BenchNodes, Plan, measure
from boxsched.bench.webhooks import measure as measure_webhooks
from boxsched.cli.connection import PATIENCE_SECONDS, Service, with_service
from boxsched.cli.failing import Failure, InvalidInput, clear_errors
from boxsched.cli.options import FiniteRange
from boxsched.cli.output import print_json
from boxsched.cli.serve import loop_factory
from boxsched.client import Client
from boxsched.client.finding import LOOPBACK
from boxsched.store import is_postgres

MAX_WAITING = 10_000_000
BUILDS = 20_000


class _Counts(click.ParamType[tuple[int, ...]]):
    """A comma-separated list of numbers."""

    name = "N,N,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            counts = tuple(int(part) for part in str(value).split(","))
        except ValueError:
            counts = ()
        if not counts or not all(1 <= count <= MAX_WAITING for count in counts):
            self.fail(f"{value!r}: must be numbers from 1 to {MAX_WAITING}, as in 1,10", param, ctx)
        return counts


@click.command()
@click.option(
    "--builds", type=click.IntRange(1, 1_000_000), metavar="N", help=f"Builds. [default: {BUILDS}]"
)
@click.option(
    "--seconds",
    type=FiniteRange(0, 86_400, min_open=True),
    metavar="S",
    help="Submit builds for this many seconds, instead of --builds.",
)
@click.option(
    "--jobs", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Jobs of a build."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1_000),
    default=64,
    show_default=True,
    help="Connections; each has one submission at a time.",
)
@click.option(
    "--database",
    metavar="URL",
    help="Also measure single-row inserts into this PostgreSQL server.",
)
@click.option("--webhooks", is_flag=True, help="Deliveries of a code host, instead of submissions.")
@click.option("--core", is_flag=True, help="Measure only the core; needs no service.")
@click.option(
    "--waiting",
    type=_Counts(),
    default="1000,100000,1000000",
    show_default=True,
    help="With --core: how many workloads are waiting.",
)
@click.option("--json", is_flag=True, expose_value=False, help="Print JSON (it always does).")
@with_service
def bench(
    builds: int | None,
    seconds: float | None,
    jobs: int,
    concurrency: int,
    database: str | None,
    webhooks: bool,
    core: bool,
    waiting: tuple[int, ...],
    service: Service,
) -> None:
    """Measure a running service, or only the scheduling core (--core). Print JSON.

    Start the service with --box-driver none: its Boxes then run nothing, so the scheduler is
    measured. The command uses a project named bench, and also measures the disk. For several
    nodes, give the --url of each (not of a load balancer): the clients are spread over them.

    \b
    Examples:
      boxsched serve --data /tmp/bench --box-driver none --boxes 64
      boxsched bench --data /tmp/bench
      boxsched bench --url http://one:8080 --url http://two:8080 --token TOKEN --seconds 60
      boxsched bench --webhooks --builds 10000
      boxsched bench --core
    """
    if builds is not None and seconds is not None:
        raise InvalidInput("give --builds or --seconds, not both")
    if core and webhooks:
        raise InvalidInput("give --core or --webhooks, not both")
    if core:
        try:
            found: dict[str, object] = asyncio.run(core_report(waiting))
        except ChildProcessError as error:
            raise Failure(str(error)) from None
    else:
        if seconds is None:
            builds = builds or BUILDS
        plan = Plan(builds, seconds or 0.0, jobs, concurrency)
        found = _measure_service(service.nodes, plan, database, webhooks=webhooks)
    print_json(found)


def _measure_service(
    services: Sequence[Service], plan: Plan, database: str | None, *, webhooks: bool
) -> dict[str, object]:
    with clear_errors():
        beside = {} if database is None else {"database": _inserts(database)}
        found = services[0].call(
            lambda client: _measure_nodes(services, client, plan, webhooks=webhooks),
            loop_factory=loop_factory(),
        )
    local = _local(services[0])
    found["disk"] = figures.disk(local.folder.path if local else None)
    return found | beside | {"machine": figures.machine(), "versions": figures.versions()}


async def _measure_nodes(
    services: Sequence[Service], first: Client, plan: Plan, *, webhooks: bool
) -> dict[str, object]:
    places = [_place(service) for service in services]
    async with contextlib.AsyncExitStack() as stack:
        others = [Client(url, token, patience=PATIENCE_SECONDS) for url, token in places[1:]]
        for client in others:
            await stack.enter_async_context(client)
        nodes = BenchNodes((first, *others), [BenchTarget(url, token) for url, token in places])
        if webhooks:
            return await measure_webhooks(nodes, plan, _say)
        local = _local(services[0])
        listening = local.folder.listening() if local else None
        return await measure(nodes, plan, listening.pid if listening else None, _say)


def _place(node: Service) -> tuple[str, str]:
    """Return (URL, token) of one node."""
    (url,), token = node.find()
    return url, token


def _local(service: Service) -> Service | None:
    """Return the service if it is on this machine and its data folder is known."""
    url, _ = _place(service)
    local = service.folder.listening()
    here = local is not None and URL(url).host in LOOPBACK and URL(local.url).port == URL(url).port
    return service if here else None


def _inserts(url: str) -> dict[str, object]:
    from boxsched.bench.database import inserts  # imports the library only when it is used

    if not is_postgres(url):
        raise InvalidInput("--database: must be postgresql://USER@HOST/NAME")
    _say("database: single-row inserts")
    return inserts(url)


def _say(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(line, err=True)
