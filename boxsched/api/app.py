"""The aiohttp application of a node, made of the table of routes and the page."""

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from email.utils import formatdate

from aiohttp import web

import activity_monitor
from boxsched.api import openapi
from boxsched.api.auth.known_tokens import KnownTokens
from boxsched.api.auth.last_use import LastUses
from boxsched.api.auth.lasting import Lasting
from boxsched.api.auth.sessions import StoredSessions
from boxsched.api.auth.tokens import of_file, replaces
from boxsched.api.http import bodies, replies
from boxsched.api.http.bodies import MAX_BODY_BYTES
from boxsched.api.http.guard import CheckScope, Declared, Guard
from boxsched.api.http.peers import Peers
from boxsched.api.resources.in_scope import InScope
from boxsched.api.resources.operations import OperationRoutes
from boxsched.api.routes import PAGE_POLICIES, Route, table
from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.automation.deploys import AutomaticDeploys
from boxsched.automation.plans import Plans
from boxsched.automation.schedules import Schedules
from boxsched.folders import DataFolder
from boxsched.node.node import Node
from boxsched.store.records import Token

Chore = Callable[[], Coroutine[None, None, None]]
OnPrepare = Callable[[web.Request, web.StreamResponse], Awaitable[None]]

log = logging.getLogger(__name__)


def application(node: Node) -> web.Application:
    """Return the API and the Activity Monitor. Serve it with ``serving.Runner``, for deadlines.

    Raises UnsafeToken if other users can read the data folder's admin token.
    """
    own = of_file(node.options.data, node.name, node.clock.now())
    tokens = KnownTokens(node.store, node.clock.now)
    sessions = StoredSessions(node.store, tokens, node.clock.now)
    lasting = Lasting(tokens)
    declared: dict[web.AbstractRoute, Declared] = {}
    pages = activity_monitor.Pages(sessions)
    peers = Peers(node.options.trusted_proxies)
    uses = LastUses(node.store, node.clock.now)
    guard = Guard(tokens, sessions, lasting, declared, peers, pages, uses, node.organizations)
    app = web.Application(middlewares=[guard.middleware()], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(replies.add_headers)
    app.on_response_prepare.append(_dated(node))
    app.on_response_prepare.append(_close_when_stopping(node))
    known = KnownProjects(node.store)
    chores = {
        "tokens of what lasts": lasting.run,
        "last use of tokens": uses.run,
        "automatic deploys": AutomaticDeploys(node, known).run,
        "plans of builds": Plans(node, known).run,
        "schedules": Schedules(node, known).run,
    }
    app.cleanup_ctx.append(_life(node, own, tokens, chores))
    delivered: Counter[tuple[str, str]] = Counter()
    operations = OperationRoutes(node, guard.answered, delivered)
    routes = table(node, known, tokens, operations, delivered)
    operations.describe(
        openapi.document((one.method, one.path, one.asks, one.what) for one in routes)
    )
    in_scope = InScope(node.store)
    for route in routes:
        _add(app, route, declared, in_scope.check_of(route.path))
    _add_page(app, pages, declared)
    for resolved in app.router.routes():
        assert resolved in declared, f"{resolved.method} {resolved.resource} declares no right"
    return app


def _dated(node: Node) -> OnPrepare:
    """Set the Date header by the node's clock, as all times in answers, not by the machine's.

    The page and the client compute ages with it.
    """
    second, text = 0, ""

    async def date(_: web.Request, response: web.StreamResponse) -> None:
        nonlocal second, text
        now = int(node.clock.now())
        if now != second:
            second, text = now, formatdate(now, usegmt=True)
        response.headers["Date"] = text

    return date


def _close_when_stopping(node: Node) -> OnPrepare:
    """Close connections when the node stops, so that the next request goes to another node."""

    async def close(_: web.Request, response: web.StreamResponse) -> None:
        if node.stopping and response.status != 101:
            response.force_close()
            response.headers["Connection"] = "close"

    return close


def _life(
    node: Node, own: Token, tokens: KnownTokens, chores: Mapping[str, Chore]
) -> Callable[[web.Application], AsyncIterator[None]]:
    """Return the context that runs from before the node listens until all answers have ended."""

    async def life(_: web.Application) -> AsyncIterator[None]:
        await _keep(own, node)
        tasks = [asyncio.create_task(run(), name=name) for name, run in chores.items()]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await tokens.close()

    return life


async def _keep(own: Token, node: Node) -> None:
    """Store the data folder's admin token, and revoke an earlier token of the same file."""
    store = node.store
    await store.put_token(own)
    kept = await store.tokens()
    for one in kept:
        if replaces(own, one):
            await store.revoke_token(one.id)
    if own.digest not in {one.digest for one in kept}:
        log.warning(
            "the token in %s was revoked: delete the file and restart to create a new one",
            DataFolder(node.options.data).token_file,
        )


def _add(
    app: web.Application,
    route: Route,
    declared: dict[web.AbstractRoute, Declared],
    check_scope: CheckScope | None,
) -> None:
    name = f"{route.method} {openapi.plain(route.path)}"
    # Monitoring tools may add any query parameter to paths outside of the API.
    of_api = route.path.startswith(openapi.PREFIX)
    query = frozenset(one.name for one in route.what.query) if of_api else None
    for method in (route.method, "HEAD") if route.head else (route.method,):
        added = app.router.add_route(
            method, route.path, route.handler, expect_handler=bodies.expected
        )
        declared[added] = Declared(route.asks, name, route.lasting, query, check_scope)


def _add_page(
    app: web.Application,
    pages: activity_monitor.Pages,
    declared: dict[web.AbstractRoute, Declared],
) -> None:
    """Add the page's routes. Raises KeyError for a route that the table does not have."""
    for route in pages.routes():
        name = f"{route.method} {route.path}"
        asks = PAGE_POLICIES[route.method, route.path]
        before = set(app.router.routes())
        route.register(app.router)
        for added in set(app.router.routes()) - before:  # GET also adds HEAD
            declared[added] = Declared(asks, name)
