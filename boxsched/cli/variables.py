"""Warn at the start about environment variables that look like misspelled options."""

import difflib
import os
from collections.abc import Iterator, Mapping

import click

from boxsched.cli.clean import plain
from boxsched.secrets.ring import VARIABLE as SECRETS_KEY

PREFIX = "BOXSCHED_"
_OF_TESTS = f"{PREFIX}TEST_"
# The variables of jobs (``worker.plan``): a job may start another service.
OF_JOBS = frozenset(
    PREFIX + name
    for name in (
        *("PROJECT", "KIND", "BRANCH", "TAG", "SERVER", "COMMIT"),
        *("WORKLOAD", "JOB", "ATTEMPT", "LEASE_TOKEN"),
    )
)
# Variables that are not options.
NO_OPTIONS = frozenset({SECRETS_KEY})


def warn_unknown_variables(environment: Mapping[str, str] = os.environ) -> None:
    """Warn about each variable that is not an option of a command; suggest the closest one."""
    ctx = click.get_current_context()
    own = set(_variables(ctx.command, ctx))
    strange = {name for name in environment if name.startswith(PREFIX)} - own - OF_JOBS
    strange = {name for name in strange if not name.startswith(_OF_TESTS)} - NO_OPTIONS
    if strange:  # import all commands only if there is one
        root = ctx.find_root()
        strange -= set(_variables(root.command, root))
    for name in sorted(strange):
        meant = difflib.get_close_matches(name, sorted(own), n=1, cutoff=0.8)
        ask = f"; {meant[0]}?" if meant else ""
        click.echo(f"boxsched: {plain(name)} is not an option of {ctx.info_name}{ask}", err=True)


def _variables(command: click.Command, ctx: click.Context) -> Iterator[str]:
    for option in command.params:
        if isinstance(option.envvar, str):
            yield option.envvar
    if isinstance(command, click.Group):
        for name in command.list_commands(ctx):
            one = command.get_command(ctx, name)
            if one is not None:
                yield from _variables(one, ctx)
