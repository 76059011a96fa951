"""Ask for confirmation, on a terminal, before an action that cannot be undone."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from boxsched.cli.clean import plain

_C = TypeVar("_C", bound=Callable[..., Any])


def yes_option(command: _C) -> _C:
    return click.option("--yes", "-y", is_flag=True, help="Do not ask on a terminal.")(command)


def confirm(question: str, *, yes: bool) -> None:
    """End the command unless the user at the terminal confirms. Without a terminal, do not ask."""
    if not yes and sys.stdin.isatty():
        click.confirm(plain(question), abort=True, err=True)
