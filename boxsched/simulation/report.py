"""Show an outcome: for programs as JSON, one object in each line; for people as a table with a
timeline."""

import json

import attrs
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from boxsched.scheduling.interface import Submit
from boxsched.simulation.outcome import Outcome, SimulatedTimes, Summary

SHOWN_WORKLOADS = 100
NAME_CHARACTERS = 20
MIN_BAR_COLUMNS, MAX_BAR_COLUMNS = 12, 60

_STYLES = {
    "passed": "green",
    "failed": "red",
    "stopped": "yellow",
    "canceled": "bright_black",
    "refused": "magenta",
    "waits": "bold",
}
_EXACT_INTEGERS = 2.0**53


# --- For programs ---------------------------------------------------------------------------


def as_json(outcome: Outcome) -> str:
    """Return every workload and the summary, as one line (docs/simulation.md, "Output")."""
    workloads = {name: _record_fields(record) for name, record in outcome.workloads.items()}
    return json.dumps({"workloads": workloads, "summary": summary_fields(outcome.summary)})


def log_as_json(summary: Summary, left_out: int) -> str:
    return json.dumps({"summary": {**summary_fields(summary), "left_out": left_out}})


def summary_fields(summary: Summary) -> dict[str, float | int]:
    return {**attrs.asdict(summary), "makespan": _number(summary.makespan)}


def _record_fields(record: SimulatedTimes) -> dict[str, float | str | None]:
    return {
        "registered_at": _number(record.registered_at),
        "queued_at": _time(record.queued_at),
        "started_at": _time(record.started_at),
        "finished_at": _time(record.finished_at),
        "result": record.result,
    }


def _time(seconds: float | None) -> float | None:
    return None if seconds is None else _number(seconds)


def _number(value: float) -> float | int:
    """Show a whole number without ".0" if it is exact as an integer."""
    return int(value) if value.is_integer() and abs(value) <= _EXACT_INTEGERS else value


# --- For people -----------------------------------------------------------------------------


def show(console: Console, outcome: Outcome, title: str, limit: int | None) -> None:
    """Print a line for each workload, at most ``limit``, then the summary."""
    if title:
        console.print(Text(readable(title, console.encoding), style="bold"))
    if outcome.records:
        console.print(_workload_table(outcome, limit, console.encoding))
        left = len(outcome.records) - (len(outcome.records) if limit is None else limit)
        if left > 0:
            console.print(Text(f"... and {left:,} more; --all shows them", style="dim"))
    console.print()
    show_summary(console, outcome.summary)


def show_summary(console: Console, summary: Summary, left_out: int | None = None) -> None:
    rows = {
        "workloads": f"{summary.workloads:,}",
        "jobs": f"{summary.jobs:,}",
        "makespan": duration(summary.makespan),
        "mean wait": duration(summary.mean_wait),
        "mean bounded slowdown": f"{summary.mean_bounded_slowdown:,.2f}",
        "utilization": f"{summary.utilization:.1%}",
    }
    if left_out is not None:
        rows["left out of the log"] = f"{left_out:,}"
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)


def _workload_table(outcome: Outcome, limit: int | None, encoding: str) -> Table:
    kinds = [e.kind for _, e in outcome.scenario.events if isinstance(e, Submit)]
    first, last = _span(outcome)
    table = Table(box=None, pad_edge=False, header_style="bold", expand=False)
    table.add_column("workload", no_wrap=True, overflow="crop")
    table.add_column("kind", no_wrap=True, overflow="crop")
    for heading in ("registered", "waited", "ran"):
        table.add_column(heading, justify="right", no_wrap=True, overflow="crop")
    table.add_column("result", no_wrap=True, overflow="crop")
    # The only column that may shrink: the bars use the remaining width.
    span = f"{duration(first)} to {duration(last)}"
    table.add_column(span, min_width=len(span))
    for name, kind, record in list(
        zip(outcome.scenario.names, kinds, outcome.records, strict=True)
    )[:limit]:
        result = record.result or "waits"
        table.add_row(
            Text(_brief(readable(name, encoding))),
            kind,
            duration(record.registered_at),
            _waited(record, last),
            _ran(record),
            Text(result, style=_STYLES[result]),
            Timeline(record, first, last),
        )
    return table


def _span(outcome: Outcome) -> tuple[float, float]:
    first = outcome.scenario.events[0][0]
    return first, max(first + outcome.summary.makespan, outcome.scenario.events[-1][0])


def _waited(record: SimulatedTimes, last: float) -> str:
    ends = (record.started_at, record.finished_at, last)
    return duration(next(e for e in ends if e is not None) - record.registered_at)


def _ran(record: SimulatedTimes) -> str:
    if record.started_at is None or record.finished_at is None:
        return "-"
    return duration(record.finished_at - record.started_at)


@attrs.frozen
class Timeline:
    """A bar in the remaining width of the table: dots while it waits, blocks while it runs."""

    record: SimulatedTimes
    first: float
    last: float

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(MIN_BAR_COLUMNS, MAX_BAR_COLUMNS)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        waits, runs = (".", "#") if options.ascii_only else ("·", "█")
        columns = options.max_width
        registered = self._column(self.record.registered_at, columns)
        started = self._column(self.record.started_at, columns)
        finished = self._column(self.record.finished_at, columns)
        bar = Text(" " * registered)
        if self.record.started_at is None:
            bar.append(waits * (finished - registered), style="dim")
        else:
            bar.append(waits * (started - registered), style="dim")
            # Even the shortest run is visible.
            shortest = 1 if started < columns else 0
            style = _STYLES[self.record.result or "waits"]
            bar.append(runs * max(finished - started, shortest), style=style)
        yield bar

    def _column(self, at: float | None, columns: int) -> int:
        if at is None or self.last <= self.first:
            return columns
        return round((at - self.first) / (self.last - self.first) * columns)


def readable(text: str, encoding: str = "utf-8") -> str:
    """Replace characters that a terminal would take as commands or cannot show."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown.encode(encoding, "replace").decode(encoding)


def _brief(text: str) -> str:
    return text if len(text) <= NAME_CHARACTERS else text[: NAME_CHARACTERS - 3] + "..."


def duration(seconds: float) -> str:
    """Format a duration as ``12.5 s``, ``3:20``, ``1:00:05`` or ``2 d 3 h``."""
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    if (tenths := round(seconds, 1)) < 60:
        return f"{sign}{tenths:g} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if not hours:
        return f"{sign}{minutes}:{left:02}"
    if hours < 48:
        return f"{sign}{hours}:{minutes:02}:{left:02}"
    days, hours = divmod(hours, 24)
    return f"{sign}{days:,} d {hours} h"
