"""``boxsched resolve``: set the result of a job whose worker is away."""

from typing import Any

import click

from boxsched.cli import naming
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import InvalidInput
from boxsched.cli.output import as_json_option, print_json, with_unknown
from boxsched.client import Client, Workload
from boxsched.protocol.inbox import Resolution


@click.command()
@click.argument("job")
@click.argument("result", type=click.Choice([one.value for one in Resolution]))
@click.option("--note", default="", metavar="TEXT", help="Why, for the history.")
@as_json_option
@with_service
def resolve(job: str, result: str, note: str, as_json: bool, service: Service) -> None:
    """Set the result of a job whose worker is away, so that its lane continues.

    RESULT is passed, failed, or again for another attempt. First make sure that the job is no
    longer running: the next deploy to its server may start at once. If the worker comes back, it
    stops the job, and its result no longer counts.

    JOB is w41-2, or the ID of a workload with one job: w41, or web#12.

    \b
    Example:  boxsched resolve w41-1 failed --note "builder-2 burned down"
    """

    async def work(client: Client) -> tuple[Workload, Any]:
        done = await client.resolve(await _job_id(client, job), result, note=note)
        return done, await client.json("workloads", done.id) if as_json else None

    done, shown = service.call(work)
    if as_json:
        print_json(shown)
        return
    click.echo(f"{plain(job)}: resolved as {result}")
    click.echo(f"{plain(done.title)} ({done.id}): {with_unknown(done)}")


async def _job_id(client: Client, text: str) -> str:
    if naming.is_job(text):
        return text
    workload = await client.workload(await naming.workload_id(client, text))
    if len(workload.jobs) != 1:
        ids = ", ".join(one.id for one in workload.jobs[:3])
        raise InvalidInput(f"{text} has {len(workload.jobs)} jobs: name one of them ({ids}, ...)")
    return workload.jobs[0].id
