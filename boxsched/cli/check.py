"""``boxsched check``."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsched.cli.clean import plain
from boxsched.cli.failing import FAILED, InvalidInput, clear_errors
from boxsched.cli.options import env_option
from boxsched.cli.output import as_json_option, print_json
from boxsched.cli.progress import ProgressLine
from boxsched.folders import DataFolder, default_data

if TYPE_CHECKING:
    from boxsched.store.operating.check import Violation

MAX_ROWS_SHOWN = 20


class _CheckProgress(ProgressLine):
    """Shows the progress of a check and collects notes about what it could not check."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: list[str] = []

    def step(self, what: str) -> None:
        self.say(f"checking: {what}")

    def note(self, text: str) -> None:
        self.notes.append(text)


@click.command()
@env_option(
    "--database",
    metavar="URL",
    help="sqlite:///PATH or postgresql://... [default: the data folder's]",
)
@env_option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data folder. [default: the user's]",
)
@as_json_option
def check(database: str | None, data: Path | None, as_json: bool) -> None:
    """Verify every invariant of a database. Print the rows that break one, and exit with 1.

    It only reads, in one snapshot, and can run while services run. On PostgreSQL it needs only a
    role with the right to read (boxsched db upgrade --grant-read).

    \b
    Example:  boxsched check --database sqlite:///copy.sqlite
    """
    from boxsched.store import is_postgres, sqlite_path
    from boxsched.store.operating.check import check as look
    from boxsched.store.operating.session import shown

    url = database or f"sqlite:///{DataFolder(data or default_data()).database_file}"
    following = _CheckProgress()
    with clear_errors(), following:
        where = shown(url)
        if not is_postgres(url) and not sqlite_path(url).is_file():
            raise InvalidInput(f"there is no database {sqlite_path(url)}; give one with --database")
        found = asyncio.run(look(url, following))
    if as_json:
        violations = [_as_json(one) for one in found]
        print_json({"database": where, "violations": violations, "notes": following.notes})
    else:
        _print(found, following.notes)
    if found:
        raise click.exceptions.Exit(FAILED)


def _print(found: Sequence["Violation"], notes: Sequence[str]) -> None:
    for one in found:
        click.echo(plain(f"{one.invariant}: {one.what}"))
        for row in one.rows[:MAX_ROWS_SHOWN]:
            click.echo("  " + plain(", ".join(_texts(row))))
        if len(one.rows) > MAX_ROWS_SHOWN:
            click.echo(f"  and {len(one.rows) - MAX_ROWS_SHOWN} more rows")
    if not found:
        click.echo("All invariants hold.")
    for note in notes:
        click.echo(plain(f"note: {note}"))


def _as_json(one: "Violation") -> dict[str, object]:
    rows = [_texts(row) for row in one.rows]
    return {"invariant": one.invariant, "what": one.what, "rows": rows}


def _texts(row: tuple[object, ...]) -> list[str]:
    return [str(value) for value in row]
