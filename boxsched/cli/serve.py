"""``boxsched serve``: the service in this process."""

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from boxsched.cli.failing import BadInput, Failure, clear_errors
from boxsched.folders import default_data
from boxsched.model import Policy

if TYPE_CHECKING:
    from boxsched.node import Options

LoopFactory = Callable[[], asyncio.AbstractEventLoop]
_C = TypeVar("_C", bound=Callable[..., Any])

MAX_BOXES_OF_A_WORKER = 10_000
_SECONDS = click.FloatRange(min=0)


def served_by_option(name: str, **attributes: Any) -> Callable[[_C], _C]:
    """An option that is also an environment variable: --max-boxes is BOXSCHED_MAX_BOXES."""
    variable = "BOXSCHED_" + name.removeprefix("--").replace("-", "_").upper()
    return click.option(name, envvar=variable, show_default=True, **attributes)


def check_database(database: str | None, redis: str | None) -> None:
    """Refuses what this version cannot use, with a sentence."""
    if redis is not None:
        raise BadInput("--redis: Redis comes with PostgreSQL, in the next version; leave it out")
    if database is None or database.startswith("sqlite:///"):
        return
    if database.startswith(("postgresql://", "postgres://")):
        raise BadInput(
            "--database: PostgreSQL comes in the next version; leave the option out to use SQLite "
            "in the data folder, or give sqlite:///PATH"
        )
    raise BadInput(f"--database: {database!r} is not sqlite:///PATH")


def run(options: "Options") -> None:
    """Serve until a signal ends it; what keeps it from starting ends the command."""
    from boxsched.service import serve as serve_node

    run_loop(lambda: serve_node(options), options)


def run_loop(work: Callable[[], Any], options: "Options") -> None:
    """Run a coroutine on the fastest loop there is, with the service's errors made clear."""
    from boxsched.api.tokens import UnsafeToken

    logging.basicConfig(
        level=logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    with clear_errors():
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(work())
        except UnsafeToken as error:
            raise Failure(str(error)) from None
        except OSError as error:
            raise Failure(_why_not(error, options)) from None


def _why_not(error: OSError, options: "Options") -> str:
    if error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}; choose a folder with --data"
    return (
        f"cannot listen on {options.host}:{options.port}: {error.strerror}; "
        "choose with --host and --port (0 picks a free port)"
    )


def loop_factory() -> LoopFactory | None:
    """The fastest loop there is on this platform; None = Python's own."""
    try:
        import uvloop
    except ImportError:  # not made for every platform
        return None
    return uvloop.new_event_loop


@click.command()
@served_by_option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data folder: database, logs, admin token, worker state. [default: the user's]",
)
@served_by_option("--database", metavar="URL", help="sqlite:///PATH [default: in the data folder]")
@served_by_option("--redis", metavar="URL", hidden=True)
@served_by_option("--host", default="127.0.0.1", help="Where to listen.")
@served_by_option(
    "--port", type=click.IntRange(0, 65_535), default=8080, help="0 picks a free one."
)
@served_by_option(
    "--boxes",
    type=click.IntRange(0, MAX_BOXES_OF_A_WORKER),
    metavar="N",
    help="Boxes of the in-process worker; 0 = none. [default: one a core]",
)
@served_by_option(
    "--box-driver",
    type=click.Choice(["process", "none"]),
    default="process",
    help="What runs jobs; `none` runs nothing and passes (for bench).",
)
@served_by_option(
    "--policy",
    type=click.Choice([policy.value for policy in Policy]),
    default=Policy.BACKFILL.value,
    help="What may go ahead of the first workload that does not fit.",
)
@served_by_option(
    "--max-boxes",
    type=click.IntRange(0),
    metavar="N",
    help="The plan: never more Boxes than this in use. [default: no limit]",
)
@served_by_option(
    "--priority-aging",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Seconds of waiting that one point of priority is worth. [default: off]",
)
@served_by_option(
    "--log-limit",
    type=click.IntRange(1_024),
    default=16 * 1024 * 1024,
    metavar="BYTES",
    help="Most that is kept of a job's log.",
)
@served_by_option(
    "--stop-grace",
    type=_SECONDS,
    default=10.0,
    metavar="S",
    help="Seconds between asking a job to end and killing it.",
)
@served_by_option(
    "--shutdown-grace",
    type=click.FloatRange(min=0, min_open=True),
    default=8.0,
    metavar="S",
    help="Seconds that requests under way have when the service ends.",
)
def serve(data: Path | None, redis: str | None, policy: str, **options: Any) -> None:
    """Run the service: API, Activity Monitor and in-process worker, until Ctrl-C or SIGTERM.

    When it is ready it prints `listening on http://HOST:PORT`; the token to sign in with is in
    admin-token in the data folder. Jobs that run when it ends go on, and are found again by the
    next start. Every option is also an environment variable: --max-boxes is BOXSCHED_MAX_BOXES.

    \b
    Example:  boxsched serve --boxes 4 --port 8080
    """
    check_database(options["database"], redis)
    from boxsched.node import Options

    run(Options(data=data or default_data(), policy=Policy(policy), **options))
