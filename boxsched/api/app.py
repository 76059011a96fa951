"""The aiohttp application of a node, put together from the table of routes and the page."""

from aiohttp import web

import activity_monitor
from boxsched.api import openapi, replies
from boxsched.api.bodies import MAX_BODY_BYTES
from boxsched.api.guard import Declared, Guard
from boxsched.api.operations import Operations
from boxsched.api.routes import PAGE_POLICIES, Route, table
from boxsched.api.sessions import StoredSessions
from boxsched.api.tokens import Tokens
from boxsched.node import Node


def application(node: Node) -> web.Application:
    """API and Activity Monitor. Serve it by ``serving.Runner``, which has the deadlines."""
    tokens = Tokens.of(node.options.data)
    sessions = StoredSessions(node.store, tokens)
    declared: dict[web.AbstractRoute, Declared] = {}
    guard = Guard(tokens, sessions, declared)
    app = web.Application(middlewares=[guard.middleware()], client_max_size=MAX_BODY_BYTES)
    app.on_response_prepare.append(replies.add_headers)
    operations = Operations(node, guard.answered)
    routes = table(node, operations)
    operations.describe(
        openapi.document((one.method, one.path, one.policy, one.what) for one in routes)
    )
    for route in routes:
        _add(app, route, declared)
    _add_page(app, sessions, declared)
    for resolved in app.router.routes():
        assert resolved in declared, f"{resolved.method} {resolved.resource} declares no policy"
    return app


def _add(app: web.Application, route: Route, declared: dict[web.AbstractRoute, Declared]) -> None:
    name = f"{route.method} {openapi.plain(route.path)}"
    for method in (route.method, "HEAD") if route.head else (route.method,):
        added = app.router.add_route(method, route.path, route.handler)
        declared[added] = Declared(route.policy, name)


def _add_page(
    app: web.Application,
    sessions: StoredSessions,
    declared: dict[web.AbstractRoute, Declared],
) -> None:
    """The page's routes; one that the table does not know stops the start."""
    for route in activity_monitor.routes(sessions):
        name = f"{route.method} {route.path}"
        policy = PAGE_POLICIES[route.method, route.path]
        before = set(app.router.routes())
        route.register(app.router)
        for added in set(app.router.routes()) - before:  # GET brings HEAD with it
            declared[added] = Declared(policy, name)
