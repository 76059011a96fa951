"""The command line. A command is imported when it is used; ``boxsched --help`` imports none."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import attrs
import click

from boxsched import __version__, loglines
from boxsched.texts import encodable


@attrs.frozen
class _Lazy:
    """A command's module and attribute, and its line in ``boxsched --help``."""

    module: str
    attribute: str
    summary: str


_COMMANDS = {
    "serve": _Lazy("serve", "serve", "Run the service: API, Activity Monitor, in-process worker."),
    "worker": _Lazy("worker", "worker", "Run jobs of a service on this machine."),
    "demo": _Lazy("demo", "demo", "Run everything with an example project, and keep it busy."),
    "project": _Lazy(
        "project", "project", "Apply, export, list and delete projects; their history."
    ),
    "build": _Lazy("submit", "build", "Submit a build of a branch or a tag."),
    "lint": _Lazy("lint", "lint", "Check a file of jobs, without a service."),
    "deploy": _Lazy("submit", "deploy", "Submit a deploy to a server."),
    "ssh": _Lazy("ssh", "ssh", "Open an SSH session, or run a command in one."),
    "stop": _Lazy("stop", "stop", "Cancel or stop workloads."),
    "resolve": _Lazy("resolve", "resolve", "Set the result of a job whose worker is away."),
    "rebuild": _Lazy("submit", "rebuild", "Submit workloads again."),
    "bump": _Lazy("pause", "bump", "Change the priority of a waiting workload."),
    "pause": _Lazy("pause", "pause", "Pause everything, a project, a branch or a server."),
    "pauses": _Lazy("pause", "pauses", "List the current pauses."),
    "resume": _Lazy("pause", "resume", "End pauses."),
    "list": _Lazy("show", "list_workloads", "List workloads, newest first."),
    "show": _Lazy("show", "show", "Show a workload and its jobs."),
    "explain": _Lazy("show", "explain", "Explain why a workload waits, and for what."),
    "logs": _Lazy("logs", "logs", "Print the log of a job, or of all jobs of a workload."),
    "artifacts": _Lazy("artifacts", "artifacts", "List or download the files that jobs kept."),
    "servers": _Lazy("servers", "servers", "Show what is live on a project's servers."),
    "schedules": _Lazy("schedules", "schedules", "Show when scheduled builds come next."),
    "workers": _Lazy("workers", "workers", "List the workers, or remove a retired one."),
    "organization": _Lazy(
        "organization", "organization", "List the organizations, create or change one."
    ),
    "nodes": _Lazy("nodes", "nodes", "List the nodes, or remove a retired one."),
    "set-aside": _Lazy(
        "set_aside", "set_aside", "List commands that the scheduler could not execute."
    ),
    "deliveries": _Lazy("deliveries", "deliveries", "List what code hosts delivered."),
    "notifications": _Lazy(
        "notifications", "notifications", "List or resend notifications to code hosts and hooks."
    ),
    "secrets": _Lazy("secrets", "secrets", "Set, list and delete the secrets of a project."),
    "token": _Lazy("token", "token", "Create, list and revoke API tokens."),
    "simulate": _Lazy("simulate", "simulate", "Run scenarios or logs in virtual time."),
    "bench": _Lazy("bench", "bench", "Measure a running service, or only the core."),
    "db": _Lazy("db", "db", "Prepare, upgrade, inspect, move or restore a database."),
    "check": _Lazy("check", "check", "Verify every invariant of a database."),
}


class _LazyGroup(click.Group):
    """A group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        lazy = _COMMANDS.get(cmd_name)
        if lazy is None:
            return None
        module = importlib.import_module(f"boxsched.cli.{lazy.module}")
        command: click.Command = getattr(module, lazy.attribute)
        return command

    def main(self, args: Sequence[str] | None = None, **options: Any) -> Any:  # type: ignore[override]
        """Refuse arguments that are not valid text: later they would cause a traceback."""
        for argument in sys.argv if args is None else args:
            if not encodable(argument):
                _refuse(f"{argument!a}: an argument must be valid UTF-8")
        for name, value in os.environ.items():
            if name.startswith("BOXSCHED_") and not encodable(value):
                _refuse(f"{name!a}: its value must be valid UTF-8")  # no value: it may be a token
        loglines.escape_by_default()
        return super().main(args, **options)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.summary) for name, lazy in _COMMANDS.items()])


def _refuse(message: str) -> NoReturn:
    click.echo(f"boxsched: {message}", err=True)
    sys.exit(2)


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="boxsched")
def main() -> None:
    """boxsched schedules a team's builds, deploys and SSH sessions on Boxes (job slots).

    \b
    Try it:   boxsched demo
    Run it:   boxsched serve
              boxsched project apply project.yaml
              boxsched build web --branch main --wait
    """
