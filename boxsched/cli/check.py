"""``boxsched check``."""

import asyncio
from pathlib import Path

import click

from boxsched.cli.clean import plain
from boxsched.cli.failing import FAILED, BadInput, clear_errors
from boxsched.cli.output import as_json_option, print_json
from boxsched.cli.serve import check_database, served_by_option
from boxsched.folders import DataFolder, default_data

MAX_ROWS_SHOWN = 20


@click.command()
@served_by_option("--database", metavar="URL", help="sqlite:///PATH [default: the data folder's]")
@served_by_option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data folder. [default: the user's]",
)
@as_json_option
def check(database: str | None, data: Path | None, as_json: bool) -> None:
    """Verify every invariant of a database; print the rows that break one, and exit with 1.

    It only reads, and may run while the service does.

    \b
    Example:  boxsched check --database sqlite:///copy.sqlite
    """
    check_database(database, None)
    from boxsched.store import sqlite_path
    from boxsched.store.check import check as look

    url = database or f"sqlite:///{DataFolder(data or default_data()).database_file}"
    with clear_errors():
        if not sqlite_path(url).is_file():
            raise BadInput(f"there is no database {sqlite_path(url)}; name one with --database")
        found = asyncio.run(look(url))
    if as_json:
        violations = [
            {
                "invariant": one.invariant,
                "what": one.what,
                "rows": [_texts(row) for row in one.rows],
            }
            for one in found
        ]
        print_json({"database": url, "violations": violations})
    else:
        for one in found:
            click.echo(plain(f"{one.invariant}: {one.what}"))
            for row in one.rows[:MAX_ROWS_SHOWN]:
                click.echo("  " + plain(", ".join(_texts(row))))
            if len(one.rows) > MAX_ROWS_SHOWN:
                click.echo(f"  and {len(one.rows) - MAX_ROWS_SHOWN} more rows")
        if not found:
            click.echo("All invariants hold.")
    if found:
        raise click.exceptions.Exit(FAILED)


def _texts(row: tuple[object, ...]) -> list[str]:
    return [str(value) for value in row]
