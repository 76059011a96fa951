"""``boxsched logs``."""

import sys
from collections.abc import Sequence

import click

from boxsched import errors
from boxsched.cli import naming
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.following import follow_logs, print_logs
from boxsched.cli.output import as_json_option, print_json
from boxsched.cli.waiting import leaving, wait_for_restarts
from boxsched.client import Client, Job


@click.command()
@click.argument("target", metavar="JOB|WORKLOAD")
@click.option("--follow", "-f", is_flag=True, help="Follow the logs until the jobs have ended.")
@click.option(
    "--attempt",
    type=click.IntRange(1),
    metavar="N",
    help="Print the log of attempt N of a job (default: its latest attempt).",
)
@click.option("--timestamps", is_flag=True, help="Print the time before each line.")
@as_json_option
@with_service
def logs(
    target: str,
    follow: bool,
    attempt: int | None,
    timestamps: bool,
    as_json: bool,
    service: Service,
) -> None:
    """Print the log of a job (w41-2), or of all jobs of a workload (w41, or web#12).

    Escape sequences are removed, except colours on a terminal.

    \b
    Example:  boxsched logs w41 --follow
              boxsched logs w41-2 --attempt 1
    """
    if follow and as_json:
        raise click.UsageError("--follow and --json cannot be combined")
    if timestamps and follow:
        raise click.UsageError("--follow and --timestamps cannot be combined")
    if attempt is not None and (follow or timestamps):
        raise click.UsageError("--attempt cannot be combined with --follow or --timestamps")
    if attempt is not None and not naming.is_job(target):
        raise click.UsageError("--attempt requires a single job, such as w41-2")

    async def work(client: Client) -> None:
        if follow:
            wait_for_restarts(client)
        jobs = await jobs_of(client, target, follow=follow)
        _say_attempts(jobs, attempt)

        async def read(job: str) -> bytes:
            if timestamps:
                return await client.log_with_times(job)
            return await client.log(job, attempt=attempt)

        if follow:
            await follow_logs(client, jobs, sys.stdout)
            return
        if not as_json:
            await print_logs(read, jobs, sys.stdout)
            return
        texts = [(await read(job.id)).decode("utf-8", "replace") for job in jobs]
        print_json(
            {
                "jobs": [
                    {"id": job.id, "name": job.name, "attempt": attempt or job.attempt, "log": text}
                    for job, text in zip(jobs, texts, strict=True)
                ]
            }
        )

    with leaving(lambda: f"{target} continues if it has not ended" if follow else None):
        service.call(work)


def _say_attempts(jobs: Sequence[Job], attempt: int | None) -> None:
    """Say on standard error which attempt is printed, of each job that has several."""
    for job in jobs:
        shown = attempt or job.attempt
        others = [str(other) for other in range(1, job.attempt + 1) if other != shown]
        if job.attempt > 1 and shown <= job.attempt:
            one = others[0] if len(others) == 1 else f"N (N: {', '.join(others)})"
            see = f"for the other{'s' if len(others) > 1 else ''}: boxsched logs {job.id} --attempt"
            said = f"{plain(job.name)} ({job.id}): attempt {shown} of {job.attempt}; {see} {one}"
            click.echo(f"boxsched: {said}", err=True)


async def jobs_of(client: Client, target: str, *, follow: bool = False) -> list[Job]:
    """Return the job, or all jobs of the workload; with ``follow`` wait until they are known."""
    if not naming.is_job(target):
        id_ = await naming.workload_id(client, target)
        found = await (client.wait_for_jobs(id_) if follow else client.workload(id_))
        if not found.jobs and not found.finished:
            click.echo(f"boxsched: the jobs of {plain(target)} are not known yet", err=True)
        return list(found.jobs)
    workload = await client.workload(target.partition("-")[0])
    jobs = [job for job in workload.jobs if job.id == target]
    if not jobs:
        raise errors.NotFound(f"there is no job {target!a}")
    return jobs
