"""How a command fails: one clear line on standard error, and the right exit status."""

import contextlib
from collections.abc import Iterator
from typing import IO, Any

import click

from boxsched import errors
from boxsched.cli.clean import plain

FAILED = 1  # the thing failed
BAD_USE = 2  # bad use or input

# What the caller gave is wrong; everything else is the thing failing.
_BAD_INPUT = (
    errors.Malformed,
    errors.Unauthorized,
    errors.Forbidden,
    errors.NotFound,
    errors.TooLarge,
    errors.Invalid,
)


class Failure(click.ClickException):
    """Ends the command with one line and a status. The text may come from outside."""

    exit_code = FAILED

    def __init__(self, message: str) -> None:
        super().__init__(plain(message))

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"boxsched: {self.message}", file=file, err=file is None)


class BadInput(Failure):
    """What was given is wrong: the line says what to give instead."""

    exit_code = BAD_USE


@contextlib.contextmanager
def clear_errors(hint: str = "") -> Iterator[None]:
    """Turns the errors that a caller may see into the end of the command."""
    try:
        yield
    except errors.BoxschedError as error:
        place = f"{error.field}: " if error.field else ""
        failure = BadInput if isinstance(error, _BAD_INPUT) else Failure
        raise failure(f"{place}{error.message}{hint}") from None
