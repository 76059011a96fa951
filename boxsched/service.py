"""The service process: a node with its API and page, from the start to SIGTERM."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

import msgspec
from aiohttp import web

from boxsched.api.app import application
from boxsched.api.http.connection_limits import ConnectionLimits
from boxsched.api.http.peers import Peers
from boxsched.api.http.serving import Runner
from boxsched.api.messages.answers import workload
from boxsched.api.starting import starting_server
from boxsched.clock import Clock
from boxsched.collecting import Collector
from boxsched.errors import StoreAway
from boxsched.folders import SERVICE, STARTING, DataFolder, Listening, Starting
from boxsched.listening import Bound, bound
from boxsched.node.node import Node
from boxsched.node.options import Options
from boxsched.store import is_postgres, open_store
from boxsched.store.errors import FULL, LASTING, FolderUnusable
from boxsched.worker.agent.agent import continuing_jobs_text

ISOLATED = "in-process Boxes isolate their jobs with bubblewrap"
UNISOLATED = (
    "in-process Boxes run jobs as the user of this service, so any job may act as an "
    "administrator: trust every job, or isolate them with --box-driver bubblewrap, or use --boxes 0"
)
NOT_ISOLATED = (
    "in-process Boxes run jobs as the user of this service, so any job may act as an "
    "administrator, because jobs are not isolated: %s; or trust every job, or use --boxes 0"
)

log = logging.getLogger(__name__)

NOTICED_SECONDS = 1.5  # enough for a load balancer that requests /readyz every 0.5 s


async def serve(options: Options) -> None:
    """Run a node until SIGTERM or SIGINT; print the address when it is ready.

    Machines start in any order. While PostgreSQL is not available yet, the node listens, answers
    that it is starting, and tries again. Errors that waiting cannot solve end it.
    """
    # The database's thread must get the interpreter back within a fraction of a statement's time.
    # With the default of 5 ms, a transaction takes fifty times as long while the loop is busy.
    sys.setswitchinterval(0.0005)
    collector = Collector()
    collector.begin()
    try:
        await _serve(options, collector)
    finally:
        collector.end()


async def _serve(options: Options, collector: Collector) -> None:
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, asked.set)
    with bound(options.host, options.port) as sockets:
        started = await _started(options, sockets, asked)
        if started is None:
            return
        node, runner = started
        try:
            await sockets.serve(runner)
            collector.settle()
            _say(sockets.url, options.data)
            say_isolation(options)
            await _until(asked, node, collector)
            await _leave(node, options.shutdown_grace)
            if jobs := len(node.worker.agent.holds):
                print(continuing_jobs_text(jobs), file=sys.stderr, flush=True)
        finally:
            (options.data / SERVICE).unlink(missing_ok=True)
            await node.hang_up()  # end long-lived connections, so that the clean-up is short
            await _clean_up(runner, options.shutdown_grace)
            await node.stop()


async def _started(
    options: Options, sockets: Bound, asked: asyncio.Event
) -> tuple[Node, Runner] | None:
    """Start the node; wait while PostgreSQL is away or the disk is full.

    Return None if the service is asked to end while it waits.
    """
    async with contextlib.AsyncExitStack() as waiting:
        said = False
        while not asked.is_set():
            try:
                return await _start(options, sockets.url)
            except LASTING:
                raise
            except StoreAway as error:
                if not (is_postgres(options.database_url) or error.no_room):
                    raise
                why = _one_line(error.message)
            except OSError as error:
                if error.errno not in FULL:
                    raise _of_folder(error, options.data) from error
                why = f"the disk of {options.data} is full"
            if not said:
                said = True
                log.warning("%s; trying again every %g s", why, options.retry_interval)
                await waiting.enter_async_context(starting_server(sockets))
                waiting.callback((options.data / STARTING).unlink, missing_ok=True)
            _say_waiting(why, options.data)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(options.retry_interval):
                    await asked.wait()
    return None


async def _start(options: Options, url: str) -> tuple[Node, Runner]:
    """Start everything except listening. If it fails, nothing keeps running."""
    node = Node(options, open_store(options.database_url, options.data), Clock(), workload)
    places = ConnectionLimits(Peers(options.trusted_proxies), options.connections_per_address)
    async with contextlib.AsyncExitStack() as undoing:
        undoing.push_async_callback(node.stop)
        await node.store.open()
        await node.start(url)
        runner = Runner(application(node), places=places, shutdown_timeout=1.0)
        undoing.push_async_callback(runner.cleanup)
        await runner.setup()
        undoing.pop_all()
    return node, runner


async def _leave(node: Node, grace: float) -> None:
    """Leave the cluster: first let another node lead, then report "not ready" to load balancers.

    Requests that still arrive here are answered.
    """
    if not node.elected:
        return
    try:
        async with asyncio.timeout(grace / 2):
            await node.leave()
            await asyncio.sleep(min(NOTICED_SECONDS, grace / 4))
    except TimeoutError:
        log.warning("the last turn took too long; another node leads when its session has ended")


def _of_folder(error: OSError, data: Path) -> Exception:
    """Convert an error of the data folder. The node listens already, so it is not about that."""
    if error.filename is not None:
        return error
    return FolderUnusable(f"the data folder {data} cannot be used: {error.strerror}")


def _one_line(message: str) -> str:
    """Return a driver's message without its advice, which is on lines after a tab."""
    said = [line for line in message.splitlines() if not line.startswith("\t")]
    return " ".join(" ".join(said).split())


def _say_waiting(why: str, data: Path) -> None:
    """Write why the node waits, for commands on this machine; not possible on a full disk."""
    draft = data / f".{STARTING}.{os.getpid()}"
    with contextlib.suppress(OSError):
        draft.write_bytes(msgspec.json.encode(Starting(os.getpid(), why)))
        draft.replace(data / STARTING)


def say_isolation(options: Options) -> None:
    """Say whether jobs in Boxes of this process are isolated."""
    if not options.box_count:
        return
    if options.isolation is not None:
        print(ISOLATED, file=sys.stderr, flush=True)
    elif options.box_driver == "process":
        if options.not_isolated is None:
            log.warning("%s", UNISOLATED)
        else:
            log.warning(NOT_ISOLATED, options.not_isolated)


def _say(url: str, data: Path) -> None:
    """Announce that the node is ready."""
    draft = data / f".{SERVICE}.{os.getpid()}"
    try:
        draft.write_bytes(msgspec.json.encode(Listening(url, os.getpid())))
        draft.replace(data / SERVICE)
    except OSError as error:
        if error.errno not in FULL:
            raise _of_folder(error, data) from error
        log.warning("the disk of %s is full: commands need --url and a token", data)
    print(f"listening on {url}", flush=True)
    token = DataFolder(data).token_file
    print(
        f"data folder: {data.resolve()}; sign in with the token in {token.resolve()}",
        file=sys.stderr,
        flush=True,
    )


async def _clean_up(runner: web.AppRunner, grace: float) -> None:
    """Wait up to ``grace`` seconds for running requests; then cut them."""
    try:
        async with asyncio.timeout(grace):
            await runner.cleanup()
    except TimeoutError:
        log.warning("running requests were cut after %g s", grace)


async def _until(asked: asyncio.Event, node: Node, collector: Collector) -> None:
    stop = asyncio.create_task(asked.wait())
    fail = asyncio.create_task(node.failed())
    collect = asyncio.create_task(collector.run())
    done, pending = await asyncio.wait((stop, fail, collect), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    for task in done - {stop}:
        task.result()
