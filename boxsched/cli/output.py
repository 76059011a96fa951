"""Print answers: JSON for programs, tables and colour on a terminal, plain columns elsewhere."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import msgspec

from boxsched.cli.clean import plain
from boxsched.client import Workload
from boxsched.said_times import with_times
from boxsched.states import JobState, Result, State

_COLOURS = {
    Result.PASSED: "green",
    Result.FAILED: "red",
    Result.STOPPED: "yellow",
    Result.CANCELED: "yellow",
    State.RUNNING: "cyan",
    State.STOPPING: "yellow",
}

# Workloads that have not started, by what they wait for.
UPCOMING, BLOCKED = "upcoming", "blocked"
PHASES: Mapping[State, str] = {State.REGISTERED: UPCOMING, State.QUEUED: BLOCKED}

_skew = [timedelta(0)]  # between this machine's clock and the service's

as_json_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def print_json(value: object) -> None:
    """Print one JSON value in ASCII, so that it cannot contain a terminal's control characters."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(msgspec.to_builtins(value), indent=indent))


def print_table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], empty: str | None = None
) -> None:
    """Print rows below their column names. Cells may contain untrusted text.

    ``empty``: the message on standard error if there are no rows.
    """
    if not rows and empty is not None:
        click.echo(f"boxsched: {empty}", err=True)
    clean = [[plain(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, clean)
        return
    widths = [max(map(width, column)) for column in zip(columns, *clean, strict=True)]
    for row in ([name.upper() for name in columns], *clean):
        padded_cells = (padded(cell, cells) for cell, cells in zip(row, widths, strict=True))
        click.echo("  ".join(padded_cells).rstrip())


def width(text: str) -> int:
    """Return the width of a line of text in terminal cells; wide characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # imported only when it is needed

    return cell_len(text)


def padded(text: str, cells: int) -> str:
    """Return the text with spaces after it, up to this many cells."""
    return text + " " * (cells - width(text))


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in row))  # type: ignore[call-overload]
    Console().print(table)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line; skip pairs without a value."""
    cells = max(width(name) for name, _ in fields)
    for name, value in fields:
        if value:
            click.echo(f"{click.style(padded(name, cells), dim=True)}  {plain(value)}")


def standing(state: State | JobState, result: Result | None) -> str:
    """Return the result if there is one, otherwise the phase or state, in the page's words."""
    if result is not None:
        return str(result)
    return PHASES.get(state, str(state)) if isinstance(state, State) else str(state)


def with_unknown(workload: Workload) -> str:
    """Return a workload's result or phase, whether it was flaky, and how many of its jobs are on
    absent workers.
    """
    unknown = sum(job.state is JobState.UNKNOWN for job in workload.jobs)
    said = standing(workload.state, workload.result)
    if workload.flaky:
        return f"{said} (flaky)"
    return f"{said}, {unknown} {'job' if unknown == 1 else 'jobs'} unknown" if unknown else said


def coloured(word: str) -> str:
    return click.style(word, fg=_COLOURS.get(word.removesuffix(" (flaky)")))  # type: ignore[call-overload]


def duration(span: timedelta) -> str:
    """Format a length of time in at most two units: ``0.4 s``, ``3 m 20 s``, ``4 d 1 h``."""
    exact = max(0.0, span.total_seconds())
    if exact < 1:
        return f"{exact:.1f} s"
    seconds = round(exact)
    units = (("d", seconds // 86_400), ("h", seconds // 3_600 % 24), ("m", seconds // 60 % 60))
    parts = [f"{count} {unit}" for unit, count in (*units, ("s", seconds % 60)) if count]
    return " ".join(parts[:2])


def ago(then: datetime | None, now: datetime) -> str:
    return "" if then is None else f"{duration(now - then)} ago"


def waited(workload: Workload, now: datetime) -> str:
    """Format how long it has waited from its creation to its start."""
    return duration((workload.started_at or workload.finished_at or now) - workload.created_at)


def ran(workload: Workload, now: datetime) -> str:
    if workload.started_at is None:
        return ""
    return duration((workload.finished_at or now) - workload.started_at)


def local_time(then: datetime | None) -> str:
    """Format a time as every command does: in this machine's time zone, which it names.

    The zones of the service, of this machine and of a page's reader may differ.
    """
    return "" if then is None else then.astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def in_local_time(sentence: str) -> str:
    """Return a sentence of the service with its times as ``local_time`` formats them."""
    return with_times(sentence, local_time)


def set_clock(skew: float) -> None:
    """Set by how many seconds the service's clock is ahead of this machine's."""
    _skew[0] = timedelta(seconds=skew)


def now() -> datetime:
    """Return the time of the service that answered last, to compare with its times."""
    return datetime.now(UTC) + _skew[0]
