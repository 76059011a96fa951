"""``boxsched demo``: the service and its traffic in one process."""

import asyncio
import random
import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from boxsched.cli.options import box_options, boxes_option, env_option
from boxsched.cli.serve import in_process_boxes, run_loop
from boxsched.folders import DataFolder, Listening, default_data

if TYPE_CHECKING:
    from boxsched.node.options import Options

DEFAULT_PORT = 8080
BOXES = 6  # few, so that some workloads wait; the jobs mostly sleep
DEMO_LOOK_SECONDS = 0.05


@click.command()
@env_option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Data folder. [default: demo in the user's data folder]",
)
@env_option("--host", default="127.0.0.1", help="Address to listen on.")
@env_option(
    "--port",
    type=click.IntRange(0, 65_535),
    help=f"Port to listen on; 0 picks a free one. [default: {DEFAULT_PORT}, or a free one]",
)
@boxes_option(4, "Boxes.", default=BOXES)
@box_options
@click.option("--quiet", "-q", is_flag=True, help="Do not print what is submitted.")
def demo(
    data: Path | None, host: str, port: int | None, boxes: int, quiet: bool, **box_options: Any
) -> None:
    """Run the service with example projects, and submit builds, deploys and SSH sessions.

    It prints the URL and how to sign in. Ctrl-C ends it; the next start continues from there.

    \b
    Example:  boxsched demo --boxes 16
    """
    from boxsched.node.options import Options

    free = port if port is not None else _port(host)
    data = data or default_data() / "demo"
    how = in_process_boxes(data, box_options)
    options = Options(
        data=data,
        host=host,
        port=free,
        boxes=boxes,
        box_driver=how.driver,
        isolation=how.isolation,
        limits=how.limits,
        **box_options,
        images=how.images,
        not_isolated=how.problem,
    )
    run_loop(lambda: _serve_busy(options, quiet), options)
    click.echo("\nThe demo has ended.")


def _port(host: str) -> int:
    """Return the default port, or 0 (a free port) if another program uses it."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, DEFAULT_PORT))
        except OSError:
            return 0
    return DEFAULT_PORT


async def _serve_busy(options: "Options", quiet: bool) -> None:
    """Run the service and the traffic until a signal; raise an error of either."""
    from boxsched.service import serve

    folder = DataFolder(options.data)
    before = _written_at(folder)  # a file that exists now is from a killed service
    service = asyncio.create_task(serve(options), name="service")
    traffic = asyncio.create_task(
        _traffic(folder, before, options.box_driver, quiet), name="traffic"
    )
    try:
        done, _ = await asyncio.wait((service, traffic), return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        traffic.cancel()
        service.cancel()
        await asyncio.gather(traffic, service, return_exceptions=True)


async def _traffic(folder: DataFolder, before: int, driver: str, quiet: bool) -> None:
    from boxsched.client import Client
    from boxsched.demo.traffic import Traffic, projects
    from boxsched.demo.visitor import Visitor

    listening = await _listening(folder, before)
    token = folder.token() or ""
    async with Client(listening.url, token) as client:
        for settings in projects():
            name = settings.pop("name")
            await client.put_project(name, settings)
        _welcome(listening.url, token, folder)
        chance = random.Random()  # noqa: S311 (no secret: which branch is built next)
        say = _nothing if quiet else _say
        async with asyncio.TaskGroup() as team:
            team.create_task(Traffic(client, chance, say).run())
            if driver != "none":
                team.create_task(Visitor(client, chance, say).run())


async def _listening(folder: DataFolder, before: int) -> Listening:
    """Wait until the service listens; its file is newer than ``before``."""
    while _written_at(folder) == before or (found := folder.listening()) is None:  # noqa: ASYNC110
        await asyncio.sleep(DEMO_LOOK_SECONDS)
    return found


def _written_at(folder: DataFolder) -> int:
    try:
        return folder.service_file.stat().st_mtime_ns
    except OSError:
        return 0


def _welcome(url: str, token: str, folder: DataFolder) -> None:
    _say(
        f"\n  Open:         {click.style(url, bold=True)}\n"
        f"  Sign in with: {click.style(token, bold=True)}\n"
        f"  (the token is in {folder.token_file})\n\n"
        "  In another terminal:\n"
        f"    export BOXSCHED_DATA={shlex.quote(str(folder.path))}\n"
        "    boxsched list\n"
        "    boxsched explain web-shop#3\n"
        "    boxsched logs web-shop#3 --follow\n"
        "    boxsched ssh web-shop --branch main\n\n"
        "  Ctrl-C ends it.\n"
    )


def _nothing(line: str) -> None:
    """Print nothing."""


def _say(line: str) -> None:
    click.echo(line)
