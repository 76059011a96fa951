"""``boxsched db``: prepare, upgrade, inspect, move and restore a database."""

import asyncio
import shlex
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from boxsched.cli.clean import plain
from boxsched.cli.copy_files import copy_files
from boxsched.cli.failing import FAILED, InvalidInput, clear_errors
from boxsched.cli.options import env_option
from boxsched.cli.output import as_json_option, local_time, print_fields, print_json, print_table
from boxsched.cli.progress import ProgressLine
from boxsched.folders import DATABASE

if TYPE_CHECKING:
    from boxsched.store.operating.maintenance import DatabaseState, Upgraded

_database = env_option(
    "--database", required=True, metavar="URL", help="sqlite:///PATH or postgresql://..."
)


@click.group()
def db() -> None:
    """Prepare, upgrade, inspect, move or restore a database; grant rights.

    \b
    Example:  boxsched db upgrade --database postgresql://owner@db/boxsched --grant boxsched
    """


db.add_command(copy_files)


@db.command()
@_database
@click.option("--grant", metavar="ROLE", multiple=True, help="Grant a service's role its rights.")
@click.option("--grant-read", metavar="ROLE", multiple=True, help="Grant a role the right to read.")
@click.option("--print", "prints", is_flag=True, help="Print the GRANT statements; change nothing.")
def upgrade(
    database: str, grant: tuple[str, ...], grant_read: tuple[str, ...], prints: bool
) -> None:
    """Prepare or upgrade the schema, and grant rights to roles.

    Run it as the owner of the tables; the administrator creates the roles. A service's role can
    read and write rows, can only add to the history of events, and cannot change tables. A reading
    role can read everything except secrets. Roles that have rights already get the rights that a
    new version needs.

    \b
    Example:  boxsched db upgrade --database postgresql://owner@db/boxsched \\
                  --grant boxsched --grant-read monitor
    """
    from boxsched.store.operating import maintenance as operating
    from boxsched.store.operating.session import shown

    asked = [(role, False) for role in grant] + [(role, True) for role in grant_read]
    if asked or prints:
        _refuse_sqlite(database, "rights")
    with clear_errors():
        if prints:
            for statement in operating.grants(database, asked):
                click.echo(f"{statement};")
            return
        upgraded = asyncio.run(operating.upgrade(database))
        click.echo(plain(f"{shown(database)}: {_of_upgrade(upgraded)}"))
        for rights in operating.grant(database, asked):
            says = "may read" if rights.purpose == "reader" else "may serve"
            click.echo(plain(f"{rights.role} {says}"))
            for surplus in rights.surplus:
                click.echo(plain(f"{rights.role} has more rights than needed: {surplus}"), err=True)


@db.command()
@_database
@as_json_option
def status(database: str, as_json: bool) -> None:
    """Show the schema, the leaders, the sizes and missing rights.

    Exit status 1 means that a service could not start on the database.
    """
    from boxsched.store.operating.maintenance import standing

    with clear_errors():
        found = standing(database)
    if as_json:
        print_json(found)
    else:
        _print_standing(found)
    if found.rights is not None and found.rights.missing:
        raise click.exceptions.Exit(FAILED)


@db.command()
@click.option("--from", "source", required=True, metavar="URL", help="sqlite:///PATH, stopped.")
@click.option("--to", "target", required=True, metavar="URL", help="postgresql://..., prepared.")
@as_json_option
def move(source: str, target: str, as_json: bool) -> None:
    """Move a stopped SQLite installation into PostgreSQL.

    The target must be empty; prepare it with `boxsched db upgrade`, and move as its owner. Logs,
    tokens and running jobs are moved too. If the move fails, the target stays empty. The SQLite
    file stays unchanged; `boxsched serve` refuses it because of a new file NAME.moved next to it.
    Afterwards start the service with the same --data folder and the new --database.

    \b
    Example:  boxsched db move --from sqlite:///data/boxsched.sqlite \\
                  --to postgresql://owner@db/boxsched
    """
    _refuse_sqlite(target, "--to")
    if not source.startswith("sqlite:///"):
        raise InvalidInput("--from: must be sqlite:///PATH")
    from boxsched.store.operating.move import move as move_all
    from boxsched.store.operating.session import shown

    progress = ProgressLine()
    with clear_errors(), progress:
        moved = move_all(source, target, progress.rows)
    if as_json:
        print_json({"to": shown(target), "rows": moved.rows, "nuls_replaced": moved.nuls})
        return
    for table, count in moved.rows.items():
        click.echo(f"{count:>10,} {table}")
    if moved.nuls:
        click.echo(f"{moved.nuls} NUL characters were replaced: PostgreSQL cannot store them")
    click.echo("Moved and checked: every invariant holds.")
    click.echo(plain(_next_step(source, shown(target))))


@db.command()
@_database
def restored(database: str) -> None:
    """Prepare a database that was restored from a backup.

    Run it before services start on the database. It advances epochs and batches by 1,000,000, so
    that lease tokens, event ids and leaderships issued after the backup become invalid. Jobs that
    were assigned in the backup but had not begun count as begun, so that none runs twice.

    \b
    Example:  boxsched db restored --database postgresql://owner@db/boxsched
    """
    from boxsched.store.operating.maintenance import restored as say_restored

    with clear_errors():
        for shard, epoch, batch in say_restored(database):
            click.echo(f"shard {shard}: epoch {epoch}, batch {batch}")
    click.echo("New workload ids are larger by a million; this is intended.")


def _of_upgrade(upgraded: "Upgraded") -> str:
    where = f" in {upgraded.place}" if upgraded.place else ""
    if upgraded.before == upgraded.after:
        return f"schema {upgraded.after}{where}: nothing to do"
    if upgraded.before == 0:
        return f"prepared: schema {upgraded.after}{where}"
    return f"upgraded: schema {upgraded.before} to {upgraded.after}{where}"


def _next_step(source: str, target: str) -> str:
    """Return the command to start next. The role is not known here."""
    from boxsched.store import sqlite_path

    file = sqlite_path(source)
    data = shlex.quote(str(file.parent)) if file.name == DATABASE else "(the folder as before)"
    _, _, place = target.rpartition("@")
    url = f"postgresql://USER:PASSWORD@{place.removeprefix('postgresql://')}"
    return (
        f"Now start it with: boxsched serve --data {data} --database {shlex.quote(url)}\n"
        "(USER is the role that has its rights from boxsched db upgrade --grant)"
    )


def _refuse_sqlite(url: str, what: str) -> None:
    if not url.startswith(("postgresql://", "postgres://")):
        raise InvalidInput(f"{what}: must be postgresql://...")


def _print_standing(found: "DatabaseState") -> None:
    print_fields(
        [
            ("database", found.database),
            ("server", found.server),
            ("cluster", found.cluster),
            ("schema", f"{found.schema} (this boxsched: {found.schema_of_program})"),
            ("size", _bytes(found.bytes)),
            ("unfinished", f"{found.unfinished:,} workloads"),
            ("inbox", f"{found.commands:,} commands"),
            ("commit times", _KEPT[found.commit_times]),
            ("lock key", _LOCK_KEYS[found.default_lock_key]),
        ]
    )
    if found.rights is not None:
        click.echo(plain(f"role          {found.rights.role}: {_of_rights(found.rights)}"))
    click.echo()
    print_table(
        ("shard", "organization", "epoch", "batch", "leader", "since"),
        [
            (
                str(one.id),
                one.organization or "",
                str(one.epoch),
                str(one.batch),
                one.node,
                _time(one.since),
            )
            for one in found.shards
        ],
    )
    if found.tables:
        click.echo()
        sizes = [(t.name, f"{t.rows:,}", _bytes(t.bytes)) for t in found.tables]
        print_table(("table", "rows, about", "size"), sizes)


_KEPT: dict[bool | None, str] = {
    None: "",
    True: "kept",
    False: "not kept (track_commit_timestamp is off): `boxsched check` cannot check V2",
}


_LOCK_KEYS: dict[bool | None, str] = {
    None: "",
    True: "the default",
    False: "not the default: each node needs the same --lock-key",
}


def _of_rights(rights: Any) -> str:
    if rights.missing:
        return "lacks " + ", ".join(rights.missing)
    if rights.purpose == "owner":
        return "the owner; create a separate role for services: boxsched db upgrade --grant"
    says = "has what a service needs" if rights.purpose == "service" else "may read"
    return says + (f", and more: {', '.join(rights.surplus)}" if rights.surplus else "")


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB"):
        if size < 1_000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1_000
    return f"{size:.1f} GB"


def _time(since: float | None) -> str:
    if since is None:
        return ""
    return local_time(datetime.fromtimestamp(since, UTC))
