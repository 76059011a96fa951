"""The answers of a node that waits for its database: it is alive, but not ready."""

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from boxsched.api.http import replies
from boxsched.api.http.serving import Runner
from boxsched.api.resources.operations import Health
from boxsched.errors import StoreAway
from boxsched.listening import Bound


async def _alive(_: web.Request) -> web.Response:
    return replies.json(Health("ok"))


async def _not_ready(_: web.Request) -> web.Response:
    return replies.refusal(StoreAway("starting: waiting for the database"))


@contextlib.asynccontextmanager
async def starting_server(sockets: Bound) -> AsyncIterator[Runner]:
    """Answer /healthz with 200 and every other request with 503."""
    app = web.Application()
    app.router.add_get("/healthz", _alive)
    app.router.add_route("*", "/{path:.*}", _not_ready)
    app.on_response_prepare.append(replies.add_headers)
    runner = Runner(app, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await sockets.serve(runner)
        yield runner
    finally:
        await runner.cleanup()
