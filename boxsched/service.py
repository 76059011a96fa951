"""The service process: a node, its API and page, from the start to SIGTERM."""

import asyncio
import gc
import logging
import os
import signal
import sys

import msgspec
from aiohttp import web

from boxsched.api.app import application
from boxsched.api.serving import Runner
from boxsched.clock import Clock
from boxsched.folders import SERVICE, Listening
from boxsched.node import Node
from boxsched.options import Options
from boxsched.store import open_store

log = logging.getLogger(__name__)

NOTICED_SECONDS = 1.5  # a load balancer that asks /readyz every 0.5 s has seen it by then


async def serve(options: Options) -> None:
    """Run a node until SIGTERM or SIGINT; prints the address when it is ready."""
    _tune()
    options.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    node = Node(options, open_store(options.database_url, options.data), Clock())
    await node.store.open()
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sign in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sign, asked.set)
    try:
        await node.start()
        runner = Runner(application(node))
        await runner.setup()
        try:
            await node.listens(await _listen(runner, options))
            await _until(asked, node)
            await _leave(node, options.shutdown_grace)
        finally:
            await node.hang_up()  # what lasts ends by itself: the clean-up need not wait for it
            await _clean_up(runner, options.shutdown_grace)
    finally:
        (options.data / SERVICE).unlink(missing_ok=True)
        await node.stop()


async def _leave(node: Node, grace: float) -> None:
    """Among others: first somebody else leads, then the load balancer sees that we are not ready,
    while everything that still comes here is answered."""
    if not node.elected:
        return
    try:
        async with asyncio.timeout(grace / 2):
            await node.leave()
            await asyncio.sleep(min(NOTICED_SECONDS, grace / 4))
    except TimeoutError:
        log.warning("a turn took too long to end: others lead when its session has ended")


async def _listen(runner: web.AppRunner, options: Options) -> str:
    """Returns where it listens."""
    site = web.TCPSite(runner, options.host, options.port, shutdown_timeout=1.0)
    await site.start()
    host, port = runner.addresses[0][:2]
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    draft = options.data / f".{SERVICE}.{os.getpid()}"
    draft.write_bytes(msgspec.json.encode(Listening(url, os.getpid())))
    draft.replace(options.data / SERVICE)
    gc.collect()
    gc.freeze()
    print(f"listening on {url}", flush=True)
    return url


async def _clean_up(runner: web.AppRunner, grace: float) -> None:
    """Requests under way have ``grace`` seconds; then they are cut."""
    try:
        async with asyncio.timeout(grace):
            await runner.cleanup()
    except TimeoutError:
        log.warning("requests under way were cut after %g s", grace)


async def _until(asked: asyncio.Event, node: Node) -> None:
    stop = asyncio.create_task(asked.wait())
    fail = asyncio.create_task(node.failed())
    done, pending = await asyncio.wait((stop, fail), return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    if fail in done:
        fail.result()


def _tune() -> None:
    """For one busy loop beside a database thread."""
    # The thread needs the interpreter back within a fraction of a statement's time: with the
    # default of 5 ms a transaction beside a busy loop takes fifty times as long.
    sys.setswitchinterval(0.0005)
    # What waits is long-lived: the default thresholds look at all of it again and again.
    gc.set_threshold(100_000, 50, 100)
