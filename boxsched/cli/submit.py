"""``boxsched build``, ``deploy`` and ``rebuild``."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import click
import msgspec

from boxsched.cli import naming
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.failing import FAILED, each_of
from boxsched.cli.output import as_json_option, coloured, now, print_json, ran, standing, waited
from boxsched.cli.waiting import continuing, leaving, named, wait_for_end
from boxsched.client import Client, Job, Workload
from boxsched.model import MAX_PRIORITY, MIN_PRIORITY

DEFAULT_BRANCH = "main"

_Submit = Callable[[Client], Awaitable[Workload]]


@attrs.frozen
class After:
    """What to do after the submission."""

    wait: bool
    follow: bool
    as_json: bool

    @property
    def waits(self) -> bool:
        return self.wait or self.follow


def _submitting(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every command that submits."""
    options = (
        click.option("--wait", is_flag=True, help="Wait until it ends; exit status 1 if it fails."),
        click.option("--follow", "-f", is_flag=True, help="Print its logs as they grow, and wait."),
        as_json_option,
        with_service,
    )
    for option in reversed(options):
        command = option(command)
    return command


_priority = click.option(
    "--priority",
    type=click.IntRange(MIN_PRIORITY, MAX_PRIORITY),
    metavar="N",
    help="0 to 100, higher first (default: by kind and branch).",
)


@click.command()
@click.argument("project")
@click.option("--branch", help="Branch to build (default: the project's default branch, or main).")
@click.option("--tag", help="Tag to build, instead of a branch.")
@click.option("--commit", help="Commit to build: 7 to 64 hex digits.")
@click.option("--message", "-m", help="Shown with it.")
@click.option("--author", help="Shown with it.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    help="Run the jobs of this job file (see `boxsched lint`) instead of the project's; - reads "
    "standard input.",
)
@_priority
@_submitting
def build(
    project: str,
    branch: str | None,
    tag: str | None,
    file: Path | None,
    wait: bool,
    follow: bool,
    as_json: bool,
    service: Service,
    **said: Any,
) -> None:
    """Submit a build of a branch or a tag of PROJECT.

    \b
    Example:  boxsched build web --branch main --message "Faster search" --wait
              boxsched build web --file .boxsched.yml --follow
    """
    if branch is not None and tag is not None:
        raise click.UsageError("--branch and --tag cannot be combined")
    if file is not None:
        said["jobs"] = _jobs_of(file)

    async def submit(client: Client) -> Workload:
        on = branch
        if on is None and tag is None:
            settings = (await client.project(project)).settings
            on = settings.get("default_branch") or DEFAULT_BRANCH
        return await client.build(project, branch=on, tag=tag, **said)

    _submit(service, {project: submit}, After(wait, follow, as_json))


def _jobs_of(file: Path) -> Sequence[Mapping[str, Any]]:
    """Return the jobs of a job file in the request's format."""
    from boxsched.cli.lint import load, refuse  # the modules that read job files are slow to import
    from boxsched.job_files.reading import WrongFile

    try:
        jobs: list[dict[str, Any]] = msgspec.to_builtins(load(file).jobs)
    except WrongFile as wrong:
        refuse(file, wrong)
    return jobs


@click.command()
@click.argument("project")
@click.argument("server")
@click.option(
    "--build",
    "of_build",
    metavar="ID",
    help="The passed build to deploy (default: the newest commit of the server's branch).",
)
@click.option("--commit", help="Commit to deploy: 7 to 64 hex digits.")
@_priority
@_submitting
def deploy(
    project: str,
    server: str,
    of_build: str | None,
    wait: bool,
    follow: bool,
    as_json: bool,
    service: Service,
    **said: Any,
) -> None:
    """Submit a deploy of PROJECT to SERVER.

    \b
    Example:  boxsched deploy web production --build web#12 --follow
    """

    async def submit(client: Client) -> Workload:
        build_id = None if of_build is None else await naming.workload_id(client, of_build)
        return await client.deploy(project, server, build=build_id, **said)

    _submit(service, {project: submit}, After(wait, follow, as_json))


@click.command()
@click.argument("workloads", metavar="ID...", nargs=-1, required=True)
@_submitting
def rebuild(
    workloads: tuple[str, ...], wait: bool, follow: bool, as_json: bool, service: Service
) -> None:
    """Submit workloads again, each as a new one at the end of its lane.

    \b
    Example:  boxsched rebuild w41
              boxsched rebuild web#12 web#14 --wait
    """
    if follow and len(workloads) > 1:
        raise click.UsageError("--follow requires a single ID; use --wait for several")

    def again(workload: str) -> _Submit:
        async def submit(client: Client) -> Workload:
            return await client.rebuild(await naming.workload_id(client, workload))

        return submit

    _submit(service, {each: again(each) for each in workloads}, After(wait, follow, as_json))


def _submit(service: Service, submits: Mapping[str, _Submit], then: After) -> None:
    """Submit each of ``submits`` (by argument), and with ``--wait`` wait for all."""
    submitted: list[Workload] = []

    async def work(client: Client) -> tuple[list[Workload], int, Any]:
        async def one(submit: _Submit) -> None:
            workload = await submit(client)
            submitted.append(workload)
            if not then.as_json:
                _say(f"{named(workload)} submitted: {_place(workload)}")

        status = await each_of(submits, one)
        found = submitted
        if then.waits:
            ends = (
                wait_for_end(client, workload, follow=then.follow, as_json=then.as_json)
                for workload in submitted
            )
            found = list(await asyncio.gather(*ends))
        shown = [await client.json("workloads", one.id) for one in found] if then.as_json else None
        return found, status, shown

    with leaving(lambda: continuing(submitted) if submitted and then.waits else None):
        found, status, shown = service.call(work)
    if shown is not None:
        print_json(shown[0] if len(submits) == 1 else {"workloads": shown})
    elif then.waits:
        for workload in found:
            _print_end(workload)
    if then.waits and not all(workload.passed for workload in found):
        status = max(status, FAILED)
    if status:
        raise click.exceptions.Exit(status)


def _say(line: str) -> None:
    click.echo(line)
    sys.stdout.flush()


def _place(workload: Workload) -> str:
    if workload.server is not None:
        return f"deploy to {plain(workload.server)}"
    return f"build of {'tag ' if workload.tag else ''}{plain(workload.place)}"


def _print_end(workload: Workload) -> None:
    result = coloured(standing(workload.state, workload.result))
    at = now()
    took = f", ran {ran(workload, at)}" if workload.started_at is not None else ""
    click.echo(f"{plain(workload.title)} {result}: waited {waited(workload, at)}{took}")
    if workload.reason and (workload.result != "failed" or not workload.jobs):
        click.echo(f"  {plain(workload.reason)}")
    for job in workload.jobs:
        if job.result not in (None, "passed") and job.reason != workload.reason:
            click.echo(f"  {plain(job.name)} ({job.id}) {job.result}: {plain(_why(job))}")


def _why(job: Job) -> str:
    if job.reason:
        return job.reason
    return "no reason is known" if job.exit_status is None else f"exit status {job.exit_status}"
