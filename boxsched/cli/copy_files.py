"""``boxsched db copy-files``: from one ``--log-store`` to another."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from boxsched.cli.failing import clear_errors
from boxsched.cli.log_store import LogStorePlace, check_log_store
from boxsched.cli.output import as_json_option, print_json
from boxsched.cli.progress import ProgressLine

if TYPE_CHECKING:
    from boxsched.node.file_copying import Copied
    from boxsched.node.options import S3Address

_PLACE = "DIR|s3://BUCKET[/PREFIX]"


@click.command("copy-files")
@click.option("--from", "source", type=LogStorePlace(), metavar=_PLACE, required=True)
@click.option("--to", "target", type=LogStorePlace(), metavar=_PLACE, required=True)
@click.option("--from-endpoint", metavar="URL", help="Address of the S3-compatible service.")
@click.option("--to-endpoint", metavar="URL", help="Address of the S3-compatible service.")
@as_json_option
def copy_files(
    source: "Path | S3Address",
    target: "Path | S3Address",
    from_endpoint: str | None,
    to_endpoint: str | None,
    as_json: bool,
) -> None:
    """Copy artifacts and logs from one --log-store to another.

    Run it before nodes use the new place, while they run; and once more when all of them use it,
    for files that came in between. A repeated or interrupted command copies only what is missing.
    Nothing is removed from the old place. Without --log-store, a service with SQLite has its files
    in the folder `blobs` of its data folder.

    \b
    Example:  boxsched db copy-files --from /srv/boxsched-files --to s3://ci-files/boxsched
    """
    check_log_store(source, from_endpoint, "--from")
    check_log_store(target, to_endpoint, "--to")
    from boxsched.node.file_copying import StorePlace
    from boxsched.node.file_copying import copy_files as copy_all

    progress = ProgressLine()

    def show(copied: "Copied", part: float) -> None:
        progress.say(f"{part:.0%}: {copied.files:,} files copied, {copied.bytes:,} bytes")

    places = StorePlace(source, from_endpoint), StorePlace(target, to_endpoint)
    with clear_errors(), progress:
        copied = asyncio.run(copy_all(*places, show))
    if as_json:
        print_json(copied)
        return
    click.echo(f"{copied.files:,} files copied ({copied.bytes:,} bytes), {copied.present:,} there")
    if copied.gone:
        click.echo(f"{copied.gone:,} were removed from the old place meanwhile")
