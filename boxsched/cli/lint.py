"""``boxsched lint``: check a job file without a service, or print its JSON Schema."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import click
import msgspec

from boxsched.cli.clean import plain
from boxsched.cli.failing import BAD_USE, InvalidInput
from boxsched.cli.output import as_json_option, print_json, print_table
from boxsched.job_files import reading, schema
from boxsched.job_files.reading import JobFile, WrongFile
from boxsched.store.records import JobSpec

DEFAULT_FILE = Path(".boxsched.yml")
STANDARD_INPUT = Path("-")
_COMMAND_CHARACTERS = 60  # how much of the first command the table shows


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--schema", "as_schema", is_flag=True, help="Print the JSON Schema of job files.")
@as_json_option
def lint(file: Path | None, as_schema: bool, as_json: bool) -> None:
    """Check a job file, and print the jobs of its builds.

    FILE is .boxsched.yml by default; - reads standard input. If the file is wrong, it prints path,
    line, column and what is wrong, and the exit status is 2. No service is needed.

    \b
    Example:  boxsched lint
              boxsched lint ci/jobs.yml --json
              boxsched lint --schema > boxsched.schema.json
    """
    if as_schema:
        if file is not None or as_json:
            raise click.UsageError("--schema cannot be combined with FILE or --json")
        click.echo(schema.text().decode(), nl=False)
        return
    path = file or DEFAULT_FILE
    try:
        jobs = reading.specs(load(path))
    except WrongFile as wrong:
        if not as_json:
            refuse(path, wrong)
        print_json({"path": shown(path), "valid": False, "errors": [_error(wrong)]})
        sys.exit(BAD_USE)
    if as_json:
        print_json({"path": shown(path), "valid": True, "jobs": [_job(job) for job in jobs]})
    else:
        print_table(("job", "box type", "limit", "commands"), _rows(jobs))


def load(path: Path) -> JobFile:
    """Read the job file at the path, or standard input. Raises WrongFile, or Failure if it cannot
    be read.
    """
    try:
        if path == STANDARD_INPUT:
            data = sys.stdin.buffer.read(reading.MAX_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(reading.MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{shown(path)}: {error.strerror}") from None
    return reading.read(data)


def shown(path: Path) -> str:
    return "standard input" if path == STANDARD_INPUT else str(path)


def refuse(path: Path, wrong: WrongFile) -> NoReturn:
    """Print ``path:line:column: what is wrong``, like compilers, and end the command."""
    where = _error(wrong)
    place = f"{shown(path)}:{where['line']}:{where['column']}"
    click.echo(plain(f"{place}: {wrong.message}"), err=True)
    sys.exit(BAD_USE)


def _error(wrong: WrongFile) -> dict[str, Any]:
    """Return the error in JSON. An error without a place gets line 1, column 1."""
    return {"line": wrong.line or 1, "column": wrong.column or 1, "message": wrong.message}


def _job(job: JobSpec) -> dict[str, Any]:
    return {
        "name": job.name,
        "box_type": job.box_type,
        "timeout_seconds": job.timeout_seconds,
        "commands": job.commands,
        "environment": job.environment,
        "show_commands": job.show_commands,
        "artifacts": job.artifacts,
        "image": job.image,
        "retry": msgspec.to_builtins(job.retry),
    }


def _rows(jobs: Sequence[JobSpec]) -> list[tuple[str, str, str, str]]:
    return [
        (job.name, job.box_type, f"{job.timeout_seconds:g} s", _shortened(job.commands))
        for job in jobs
    ]


def _shortened(commands: Sequence[str]) -> str:
    first = " ".join(commands[0].split())
    if len(first) > _COMMAND_CHARACTERS:
        first = f"{first[:_COMMAND_CHARACTERS]}..."
    more = len(commands) - 1
    return f"{first} (and {more} more)" if more else first
