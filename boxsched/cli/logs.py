"""``boxsched logs``."""

import sys

import click

from boxsched import errors
from boxsched.cli import naming
from boxsched.cli.connection import Service, with_service
from boxsched.cli.following import print_logs
from boxsched.cli.output import as_json_option, print_json
from boxsched.cli.waiting import leaving, wait_for_restarts
from boxsched.client import Client, Job


@click.command()
@click.argument("target", metavar="JOB|WORKLOAD")
@click.option("--follow", "-f", is_flag=True, help="Follow the logs until the jobs have ended.")
@click.option("--timestamps", is_flag=True, help="Print the time before each line.")
@as_json_option
@with_service
def logs(target: str, follow: bool, timestamps: bool, as_json: bool, service: Service) -> None:
    """Print the log of a job (w41-2), or of all jobs of a workload (w41, or web#12).

    Escape sequences are removed, except colours on a terminal.

    \b
    Example:  boxsched logs w41 --follow
    """
    if follow and as_json:
        raise click.UsageError("--follow and --json cannot be combined")
    if timestamps and follow:
        raise click.UsageError("--follow and --timestamps cannot be combined")

    async def work(client: Client) -> None:
        jobs = await jobs_of(client, target)
        if follow:
            wait_for_restarts(client)
        if not as_json:
            await print_logs(client, jobs, follow=follow, times=timestamps, out=sys.stdout)
            return
        read = client.log_with_times if timestamps else client.log
        texts = [(await read(job.id)).decode("utf-8", "replace") for job in jobs]
        print_json(
            {
                "jobs": [
                    {"id": job.id, "name": job.name, "log": text}
                    for job, text in zip(jobs, texts, strict=True)
                ]
            }
        )

    with leaving(lambda: f"{target} continues if it has not ended" if follow else None):
        service.call(work)


async def jobs_of(client: Client, target: str) -> list[Job]:
    """Return the job, or all jobs of the workload."""
    if not naming.is_job(target):
        return list((await client.workload(await naming.workload_id(client, target))).jobs)
    workload = await client.workload(target.partition("-")[0])
    jobs = [job for job in workload.jobs if job.id == target]
    if not jobs:
        raise errors.NotFound(f"there is no job {target!a}")
    return jobs
