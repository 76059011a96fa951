"""``boxsched list``, ``show`` and ``explain``."""

from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec

from boxsched import errors
from boxsched.cli import naming
from boxsched.cli.clean import plain
from boxsched.cli.connection import Service, with_service
from boxsched.cli.output import (
    BLOCKED,
    PHASES,
    UPCOMING,
    ago,
    as_json_option,
    coloured,
    duration,
    in_local_time,
    local_time,
    now,
    print_fields,
    print_json,
    print_table,
    ran,
    standing,
    waited,
    with_unknown,
)
from boxsched.cli.workload_fields import fields, message
from boxsched.client import Client, Explanation, Job, Page, Workload
from boxsched.model import Kind
from boxsched.states import SERVICE_RESULTS, JobState, Result, State

PAGE = 100
MAX_MESSAGE_CHARACTERS = 50
MAX_REASON_CHARACTERS = 100

# The values of --state: the words that the list shows, and the API's names.
_STATES: Mapping[str, tuple[State, Result | None]] = {
    UPCOMING: (State.REGISTERED, None),
    BLOCKED: (State.QUEUED, None),
    "running": (State.RUNNING, None),
    "stopping": (State.STOPPING, None),
    "finished": (State.FINISHED, None),
    **{result.value: (State.FINISHED, result) for result in SERVICE_RESULTS},
}
_OTHER_WORDS = {state.value: (state, None) for state in PHASES}
_PHASES = {
    "ordering": f"{UPCOMING} (ordering)",
    "admission": f"{BLOCKED} (admission)",
    "assignment": "running (assignment)",
}


@click.command("list")
@click.option(
    "--state",
    type=click.Choice([*_STATES, *_OTHER_WORDS]),
    metavar="STATE",
    help=f"Only workloads in this state: {', '.join(_STATES)}.",
)
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]), help="Only this kind.")
@click.option("--project", help="Only this project.")
@click.option("--branch", help="Only this branch.")
@click.option("--server", help="Only this server.")
@click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="List at most N."
)
@as_json_option
@with_service
def list_workloads(
    state: str | None,
    kind: str | None,
    project: str | None,
    branch: str | None,
    server: str | None,
    limit: int,
    as_json: bool,
    service: Service,
) -> None:
    """List workloads, newest first.

    \b
    Example:  boxsched list --project web --state running
    """

    filters: dict[str, str | None] = {
        "kind": kind,
        "project": project,
        "branch": branch,
        "server": server,
    }
    if state is not None:
        wanted, result = {**_STATES, **_OTHER_WORDS}[state]
        filters |= {"state": wanted.value, "result": None if result is None else result.value}
    query = {name: value for name, value in filters.items() if value is not None}

    async def work(client: Client) -> Any:
        found: list[Any] = []
        more: dict[str, str] = {}
        while True:
            size = str(min(PAGE, limit - len(found)))
            page = await _page(client, {**query, **more, "limit": size})
            found += page["workloads"]
            cursor = page["next_cursor"]
            if cursor is None or len(found) >= limit or not page["workloads"]:
                return {"workloads": found, "next_cursor": cursor}
            more = {"cursor": cursor}

    listed = service.call(work)
    if as_json:
        print_json(listed)
        return
    page = msgspec.convert(listed, Page)
    at = now()
    print_table(
        (
            "id",
            "workload",
            "kind",
            "for",
            "state",
            "priority",
            "waited",
            "ran",
            "created",
            "reason",
            "message",
        ),
        [
            (
                one.id,
                one.title,
                one.kind.value,
                one.place,
                with_unknown(one),
                str(one.priority),
                waited(one, at),
                ran(one, at),
                ago(one.created_at, at),
                _short(one.reason or in_local_time(one.why or ""), MAX_REASON_CHARACTERS),
                _short(message(one)),
            )
            for one in page.workloads
        ],
        "no workload matches" if query else "there are no workloads yet",
    )


@click.command()
@click.argument("workload", metavar="ID")
@as_json_option
@with_service
def show(workload: str, as_json: bool, service: Service) -> None:
    """Show a workload and its jobs. ID is w41, or web#12 for workload 12 of project web.

    \b
    Example:  boxsched show w41
    """

    async def work(client: Client) -> Any:
        return await client.json("workloads", await naming.workload_id(client, workload))

    shown = service.call(work)
    if as_json:
        print_json(shown)
        return
    found = msgspec.convert(shown, Workload)
    at = now()
    click.echo(f"{plain(found.title)} ({found.id})  {coloured(with_unknown(found))}")
    print_fields(fields(found, at))
    click.echo()
    print_table(
        ("job", "name", "state", "box", "attempt", "exit", "ran", "reason"),
        [
            (
                job.id,
                job.name,
                standing(job.state, job.result) + (" (flaky)" if job.flaky else ""),
                job.box or "",
                str(job.attempt),
                "" if job.exit_status is None else str(job.exit_status),
                ""
                if job.started_at is None
                else duration((job.finished_at or at) - job.started_at),
                _reason(job),
            )
            for job in found.jobs
        ],
    )


@click.command()
@click.argument("workload", metavar="ID")
@as_json_option
@with_service
def explain(workload: str, as_json: bool, service: Service) -> None:
    """Explain why a workload waits, for what, its position in the queue and its expected start.

    \b
    Example:  boxsched explain web#12
    """

    async def work(client: Client) -> Any:
        id_ = await naming.workload_id(client, workload)
        return await client.json("workloads", id_, "explanation")

    shown = service.call(work)
    if as_json:
        print_json(shown)
        return
    found = msgspec.convert(shown, Explanation)
    click.echo(plain(in_local_time(found.text)))
    print_fields(
        [
            ("phase", _PHASES.get(found.phase, found.phase)),
            ("reason", found.reason),
            ("needs", _boxes(found.needs)),
            ("free", _boxes(found.free)),
            ("position", "" if found.position is None else str(found.position)),
            ("expected start", local_time(found.expected_start)),
        ]
    )
    if found.blocked_by:
        click.echo()
        print_table(
            ("blocked by", "workload", "kind", "boxes", "expected end"),
            [
                (
                    one.id,
                    f"{one.project}#{one.number}",
                    one.kind.value,
                    str(one.boxes),
                    local_time(one.expected_end),
                )
                for one in found.blocked_by
            ],
        )


async def _page(client: Client, query: Mapping[str, str]) -> Any:
    """Return a page that says why each waits, if the node can say it."""
    try:
        return await client.json("workloads", **query, why="1")
    except errors.Invalid as error:
        if error.field != "why":  # a node of an earlier version does not know the parameter
            raise
    return await client.json("workloads", **query)


def _reason(job: Job) -> str:
    away = "its worker is away" if job.state is JobState.UNKNOWN else None
    return "; ".join(filter(None, (job.reason, away, *_earlier(job))))


def _earlier(job: Job) -> Iterator[str]:
    """Say why its earlier attempts ended, as far as the service knows it."""
    if job.retried is not None:
        causes = [
            ("lost", job.retried.lost),
            *((f"exit status {status}", times) for status, times in job.retried.exit.items()),
            ("another failure", job.retried.any),
        ]
        said = [
            f"{cause}{f' ({times} times)' if times > 1 else ''}" for cause, times in causes if times
        ]
        yield f"retried after: {', '.join(said)}"
    elif job.retries:
        yield f"retried {_times(job.retries)}"
    if (others := job.attempt - 1 - job.retries) > 0:
        yield f"begun again {_times(others)}, because an attempt had no result"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _boxes(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {box_type}" for box_type, count in counts.items())


def _short(text: str, limit: int = MAX_MESSAGE_CHARACTERS) -> str:
    line = text.partition("\n")[0]
    return line if len(line) <= limit else line[:limit] + "..."
