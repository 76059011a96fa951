"""``boxsched bench``."""

import asyncio
import sys
from typing import Any

import click
from yarl import URL

from boxsched.bench import figures
from boxsched.bench.core import report as core_report
from boxsched.bench.load import Target
from boxsched.bench.service import Plan, measure
from boxsched.cli.connection import LOOPBACK, Service, with_service
from boxsched.cli.failing import Failure, clear_errors
from boxsched.cli.output import print_json
from boxsched.cli.serve import loop_factory
from boxsched.client import Client

MAX_WAITING = 10_000_000


class _Counts(click.ParamType[tuple[int, ...]]):
    """Numbers with commas between them."""

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
            self.fail(f"{value!r}: numbers from 1 to {MAX_WAITING} with commas between", param, ctx)
        return counts


@click.command()
@click.option(
    "--builds", type=click.IntRange(1, 1_000_000), default=20_000, show_default=True, help="Builds."
)
@click.option(
    "--jobs", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Jobs of a build."
)
@click.option(
    "--concurrency",
    type=click.IntRange(1, 1_000),
    default=64,
    show_default=True,
    help="Connections, each with one submission under way.",
)
@click.option("--core", is_flag=True, help="Measure the core alone; needs no service.")
@click.option(
    "--waiting",
    type=_Counts(),
    default="1000,100000,1000000",
    show_default=True,
    help="With --core: how many workloads wait.",
)
@click.option("--json", is_flag=True, expose_value=False, help="Print JSON (it always does).")
@with_service
def bench(
    builds: int,
    jobs: int,
    concurrency: int,
    core: bool,
    waiting: tuple[int, ...],
    service: Service,
) -> None:
    """Measure a running service, or with --core the scheduling core alone; prints JSON.

    The service is to be started with --box-driver none: its Boxes run nothing, so that what is
    measured is the scheduler. Uses a project named bench there. Figures of the disk stand beside.

    \b
    Example:  boxsched serve --data /tmp/bench --box-driver none --boxes 64
              boxsched bench --data /tmp/bench
              boxsched bench --core
    """
    if core:
        try:
            found: dict[str, object] = asyncio.run(core_report(waiting))
        except ChildProcessError as error:
            raise Failure(str(error)) from None
    else:
        found = _measure_service(service, Plan(builds, jobs, concurrency))
    print_json(found)


def _measure_service(service: Service, plan: Plan) -> dict[str, object]:
    url, token = service.find()
    local = service.folder.listening()
    here = URL(url).host in LOOPBACK and local is not None and URL(local.url).port == URL(url).port
    pid = local.pid if local is not None and here else None

    async def work(client: Client) -> dict[str, object]:
        return await measure(client, Target(url, token), plan, pid, _say)

    with clear_errors():
        found = service.call(work, loop_factory=loop_factory())
    found["disk"] = figures.disk(service.folder.path if here else None)
    return found | {"machine": figures.machine(), "versions": figures.versions()}


def _say(line: str) -> None:
    if sys.stderr.isatty():
        click.echo(line, err=True)
