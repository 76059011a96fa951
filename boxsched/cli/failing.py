"""How a command fails: one clear line on standard error, and the right exit status."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import IO, Any, TypeVar

import click

from boxsched import errors
from boxsched.cli.clean import plain

_T = TypeVar("_T")

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
    """Bad input; the line says what to give instead."""

    exit_code = BAD_USE


# What the service says of one thing among several: the others go on.
_OF_ONE = (errors.NotFound, errors.Invalid, errors.Conflict)


async def each_of(things: Mapping[str, _T], work: Callable[[_T], Awaitable[None]]) -> int:
    """Do the work for each thing, in order; the exit status. ``things`` by what they are called.

    Each that is refused gets a line on standard error that names it, and the others are done.
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
    """End the command with one line for each error that a caller may see."""
    try:
        yield
    except errors.BoxschedError as error:
        place = f"{error.field}: " if error.field else ""
        failure = BadInput if isinstance(error, _BAD_INPUT) else Failure
        raise failure(f"{place}{error.message}{hint}") from None
