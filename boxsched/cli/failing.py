"""End a failed command with one clear line on standard error and an exit status."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import IO, Any, TypeVar

import click

from boxsched import errors
from boxsched.cli.clean import plain

_T = TypeVar("_T")

FAILED = 1  # the operation failed
BAD_USE = 2  # the arguments or the input are invalid

# These errors mean bad input; all others mean that the operation failed.
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


class InvalidInput(Failure):
    """The input is invalid; the message says what is valid."""

    exit_code = BAD_USE


# Errors that concern one of several things; the command continues with the others.
_OF_ONE = (errors.NotFound, errors.Invalid, errors.Conflict)


async def each_of(things: Mapping[str, _T], work: Callable[[_T], Awaitable[None]]) -> int:
    """Call ``work`` for each thing, in order; return the exit status.

    ``things``: by the names that the user gave. If the service refuses one, print a line with its
    name on standard error and continue with the others.
    """
    status = 0
    for name, thing in things.items():
        try:
            await work(thing)
        except _OF_ONE as error:
            place = f"{error.field}: " if error.field else ""
            about = "" if name in error.message else f"{name}: "
            click.echo(f"boxsched: {plain(f'{about}{place}{error.message}')}", err=True)
            status = max(status, BAD_USE if isinstance(error, _BAD_INPUT) else FAILED)
    return status


@contextlib.contextmanager
def clear_errors(hint: str = "") -> Iterator[None]:
    """End the command with one line for an error that is meant for the user."""
    try:
        yield
    except errors.BoxschedError as error:
        place = f"{error.field}: " if error.field else ""
        failure = InvalidInput if isinstance(error, _BAD_INPUT) else Failure
        raise failure(f"{place}{error.message}{hint}") from None
