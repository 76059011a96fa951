"""``boxsched simulate``: scenarios and workload logs in virtual time."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from boxsched.model import Policy
from boxsched.simulation import BadInput, Scenario, Summary, parse, report, run, swf

LONG_LOG_JOBS = 5_000  # a run of this length shows its progress


class BadUse(click.ClickException):
    """Invalid arguments or input: one line on standard error, exit status 2."""

    exit_code = 2

    def show(self, file: object = None) -> None:
        click.echo(self.format_message(), err=True)


class OneLineErrors(click.Command):
    """Reports wrong options in one line, without the usage."""

    def make_context(self, *args: object, **kwargs: object) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)  # type: ignore[arg-type]
        except click.UsageError as error:
            raise BadUse(" ".join(error.format_message().split())) from None


@click.command("simulate", cls=OneLineErrors)
@click.argument("scenarios", nargs=-1, metavar="[SCENARIO.json]...")
@click.option("--swf", "log", metavar="LOG", help="A log in the Standard Workload Format, .gz too.")
@click.option("--boxes", type=click.IntRange(0, 1_000_000), help="With --swf: the number of Boxes.")
@click.option(
    "--policy", type=click.Choice([p.value for p in Policy]), help="With --swf: the queue's policy."
)
@click.option("--limit", type=click.IntRange(0), help="With --swf: only its first LIMIT jobs.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option(
    "--all", "show_all", is_flag=True, help="Show all workloads, not only the first ones."
)
def simulate(
    scenarios: tuple[str, ...],
    log: str | None,
    boxes: int | None,
    policy: str | None,
    limit: int | None,
    as_json: bool,
    show_all: bool,
) -> None:
    """Run scenarios in virtual time, with the core of the service; - reads standard input.

    A scenario contains its Boxes, the policy, the projects' settings, and what is submitted and
    stopped at which times. With --swf, run a workload log instead.
    """
    if log is None:
        for option, value in (("--boxes", boxes), ("--policy", policy), ("--limit", limit)):
            if value is not None:
                raise BadUse(f"{option}: only with --swf")
        _simulate_scenarios(scenarios, as_json, show_all)
        return
    if scenarios:
        raise BadUse(f"{scenarios[0]}: a log and a scenario cannot be combined")
    if boxes is None:
        raise BadUse("--boxes: required with --swf")
    _simulate_log(Path(log), boxes, Policy(policy or Policy.BACKFILL), limit, as_json)


def _simulate_scenarios(paths: tuple[str, ...], as_json: bool, show_all: bool) -> None:
    if not paths:
        raise BadUse("SCENARIO.json: missing; give one or more files, or - for standard input")
    # Read all files before running the first: nothing is printed unless all are valid.
    parsed = [_parsed(path, several=len(paths) > 1) for path in paths]
    console = Console(highlight=False)
    for path, scenario in zip(paths, parsed, strict=True):
        outcome = run(scenario)
        if as_json:
            click.echo(report.as_json(outcome))
        else:
            title = path if len(paths) > 1 else ""
            report.show(console, outcome, title, None if show_all else report.SHOWN_WORKLOADS)


def _parsed(path: str, several: bool) -> Scenario:
    try:
        return parse(_contents(path))
    except BadInput as error:
        name = report.readable(path)
        if several:
            raise BadUse(f"{name}: {error}") from None
        # One line that begins with the position in the scenario (docs/simulation.md).
        raise BadUse(str(error) if path == "-" else f"{error} (in {name})") from None


def _contents(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    with _readable(path):
        return Path(path).read_bytes()


def _simulate_log(path: Path, boxes: int, policy: Policy, limit: int | None, as_json: bool) -> None:
    try:
        with _readable(str(path)):
            jobs = swf.read(path, limit)
    except BadInput as error:
        raise BadUse(f"{error} (in {report.readable(str(path))})") from None
    scenario = swf.scenario(jobs, boxes, policy)
    left_out = len(jobs) - len(scenario.events)
    summary = _watched(scenario)
    if as_json:
        click.echo(report.log_as_json(summary, left_out))
    else:
        report.show_summary(Console(highlight=False), summary, left_out)


def _watched(scenario: Scenario) -> Summary:
    """Run the scenario. A long run shows its progress on a terminal."""
    if len(scenario.events) < LONG_LOG_JOBS or not sys.stderr.isatty():
        return run(scenario).summary
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("simulating", total=len(scenario.events))
        return run(scenario, lambda done: progress.update(task, completed=done)).summary


@contextmanager
def _readable(path: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise BadUse(f"{report.readable(path)}: {reason or error}") from None
