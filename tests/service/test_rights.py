"""Each route with each kind of caller, against one table that is written by hand."""

import contextlib
import sqlite3
from collections.abc import Mapping
from typing import Any

import attrs
import pytest

from boxsched.api.auth import tokens
from boxsched.folders import DATABASE
from boxsched.model import parse_job, parse_workload
from tests.service.running_service import API, RunningService, job

# The callers, and how their tokens are made.
CALLERS: Mapping[str, Mapping[str, Any]] = {
    "viewer": {"role": "viewer"},
    "developer": {"role": "developer"},
    "developer of staging": {"role": "developer", "servers": ["staging"]},
    "operator": {"role": "operator"},
    "admin": {"role": "admin"},
    "admin of the organization": {"role": "admin", "organization": "default"},
    "admin of web": {"role": "admin", "projects": ["we?"]},
    "admin of staging": {"role": "admin", "servers": ["stag*"]},
    "worker": {"role": "worker"},
}
# For each route, in the order of CALLERS: + if the caller has the right that it asks for, else -.
EXPECTED = """
GET    /api/v1/projects                                 + + + + + + + + -
PUT    /api/v1/projects/{project}                       - - - - + + + - -
GET    /api/v1/projects/{project}                       + + + + + + + + -
DELETE /api/v1/projects/{project}                       - - - - + + + - -
POST   /api/v1/projects/{project}/check                 - - - - + + + - -
GET    /api/v1/projects/{project}/history               + + + + + + + + -
GET    /api/v1/projects/{project}/history/{version}     + + + + + + + + -
POST   /api/v1/projects/{project}/revert                - - - - + + + - -
GET    /api/v1/projects/{project}/servers               + + + + + + + + -
GET    /api/v1/projects/{project}/schedules             + + + + + + + + -
GET    /api/v1/schedules                                + + + + + + + + -
POST   /api/v1/projects/{project}/builds                - + + + + + + + -
POST   /api/v1/projects/{project}/deploys               - - + + + + + + -
POST   /api/v1/projects/{project}/ssh-sessions          - + + + + + + + -
GET    /api/v1/projects/{project}/secrets               - - - - + + + - -
PUT    /api/v1/projects/{project}/secrets/{secret}      - - - - + + + - -
DELETE /api/v1/projects/{project}/secrets/{secret}      - - - - + + + - -
POST   /api/v1/secrets/rotate                           - - - - + - - - -
GET    /api/v1/workloads                                + + + + + + + + -
GET    /api/v1/workloads/{workload}                     + + + + + + + + -
GET    /api/v1/workloads/{workload}/explanation         + + + + + + + + -
POST   /api/v1/workloads/{workload}/stop                - + + + + + + + -
POST   /api/v1/workloads/{workload}/rebuild             - + + + + + + + -
POST   /api/v1/workloads/{workload}/priority            - - - + + + + + -
GET    /api/v1/workloads/{workload}/ssh                 - + + + + + + + -
GET    /api/v1/jobs/{job}/log                           + + + + + + + + -
POST   /api/v1/jobs/{job}/resolve                       - - - + + + + + -
GET    /api/v1/jobs/{job}/artifacts                     + + + + + + + + -
GET    /api/v1/jobs/{job}/artifacts/{path}              + + + + + + + + -
POST   /api/v1/jobs/{job}/artifacts                     - - - - - - - - +
PUT    /api/v1/jobs/{job}/artifacts/{path}              - - - - - - - - +
GET    /api/v1/jobs/{job}/given-artifacts               - - - - - - - - +
GET    /api/v1/jobs/{job}/given-artifacts/{sha256}      - - - - - - - - +
GET    /api/v1/pauses                                   + + + + + + + + -
PUT    /api/v1/pauses/{pause}                           - - - + + + + + -
DELETE /api/v1/pauses/{pause}                           - - - + + + + + -
GET    /api/v1/boxes                                    + + + + + + + + -
GET    /api/v1/workers                                  + + + + + + + + -
POST   /api/v1/workers/{worker}/drain                   - - - + + + - - -
POST   /api/v1/workers/{worker}/resume                  - - - + + + - - -
DELETE /api/v1/workers/{worker}                         - - - + + + - - -
GET    /api/v1/nodes                                    + + - + + - - - -
DELETE /api/v1/nodes/{node}                             - - - - + - - - -
GET    /api/v1/ghosts                                   + + + + + + + + -
POST   /api/v1/ghosts/{ghost}/restore                   - - - + + + + + -
POST   /api/v1/ghosts/{ghost}/kill                      - - - + + + + + -
GET    /api/v1/worker                                   - - - - - - - - +
POST   /api/v1/worker/polls                             - - - - - - - - +
POST   /api/v1/worker/polls/{connection}                - - - - - - - - +
GET    /api/v1/worker/polls/{connection}                - - - - - - - - +
DELETE /api/v1/worker/polls/{connection}                - - - - - - - - +
GET    /api/v1/worker/tunnels/{tunnel}                  - - - - - - - - +
POST   /api/v1/worker/tunnels/{tunnel}/polls            - - - - - - - - +
GET    /api/v1/worker/tunnels/{tunnel}/polls            - - - - - - - - +
DELETE /api/v1/worker/tunnels/{tunnel}/polls            - - - - - - - - +
GET    /api/v1/set-aside                                + + + + + + + + -
GET    /api/v1/set-aside/{command}                      + + + + + + + + -
DELETE /api/v1/set-aside/{command}                      - - - + + + + + -
GET    /api/v1/notifications                            + + + + + + + + -
GET    /api/v1/notifications/{notification}             + + + + + + + + -
POST   /api/v1/notifications/{notification}/resend      - - - + + + + + -
GET    /api/v1/deliveries                               + + + + + + + + -
GET    /api/v1/me                                       + + + + + + + + -
PUT    /api/v1/organizations/{organization}             - - - - + - - - -
GET    /api/v1/organizations/{organization}             + + + + + + + + -
GET    /api/v1/organizations                            + + + + + + + + -
DELETE /api/v1/organizations/{organization}             - - - - + - - - -
GET    /api/v1/tokens                                   - - - - + + + + -
POST   /api/v1/tokens                                   - - - - + + + + -
DELETE /api/v1/tokens/{id}                              - - - - + + + + -
GET    /api/v1/activity                                 + + + + + + + + -
GET    /api/v1/events                                   + + + + + + + + -
GET    /api/v1/openapi.json                             + + + + + + + + -
GET    /api/v1/job-file.schema.json                     + + + + + + + + -
"""
# Without a token. ``/metrics``: on the service's own machine; the others are for everybody.
PUBLIC = {
    "GET /", "GET /servers", "GET /schedules", "GET /pauses", "GET /deliveries",
    "GET /notifications", "GET /sign-in", "POST /sign-in", "GET /sign-out", "POST /sign-out",
    "GET /static/{version}/{name}", "GET /healthz", "GET /readyz", "GET /metrics",
    "POST /webhooks/{provider}/{project}", "POST /webhooks/{provider}/{organization}/{project}",
}  # fmt: skip
METRICS = "+ + - + + - - - -"  # from another machine
# What a limited caller does not see. Objects of web's staging are in everybody's scope.
OUT_OF_SCOPE = {
    "developer of staging": ["web production", "api production"],
    "admin of web": ["api staging", "api production"],
    "admin of staging": ["web production", "api production"],
}
HAVE_A_SCOPE = {"project", "workload", "job", "ghost", "notification", "command", "pause"}
# Any API route refuses an unknown parameter, after it has checked the caller: so the test changes
# nothing.
PROBE = "?unknown=1"


def expected() -> dict[str, list[bool]]:
    rows = [line.split() for line in EXPECTED.strip().splitlines()]
    return {f"{method} {path}": [mark == "+" for mark in marks] for method, path, *marks in rows}


def routes(service: RunningService) -> set[str]:
    return {
        f"{route.method} {route.resource.canonical}"
        for route in service.runner.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }


@attrs.frozen
class World:
    """Objects of the projects web and api, for their servers staging and production."""

    service: RunningService
    tokens: Mapping[str, str]
    objects: Mapping[str, Mapping[str, str]]  # by "project server", and by the path's parameter

    @classmethod
    async def make(cls, service: RunningService) -> "World":
        made = {}
        for name, asked in CALLERS.items():
            answer = await service.call("POST", f"{API}/tokens", {"name": name, **asked})
            assert answer.status == 201, answer.body
            made[name] = answer.json["token"]
        objects = {}
        for project in ("web", "api"):
            servers = {name: {"jobs": [job()]} for name in ("staging", "production")}
            assert (await service.project(project, servers=servers)).status == 201
            for server in servers:
                objects[f"{project} {server}"] = await cls.of_server(service, project, server)
        return cls(service, made, objects)

    @staticmethod
    async def of_server(service: RunningService, project: str, server: str) -> dict[str, str]:
        deploy = await service.deploy(server, project)
        pause = f"{project}-{server}"
        asked = {"project": project, "server": server, "note": "n"}
        assert (await service.call("PUT", f"{API}/pauses/{pause}", asked)).status == 201
        found = {
            "project": project, "workload": deploy["id"], "job": deploy["jobs"][0]["id"],
            "pause": pause,
        }  # fmt: skip
        return found | stored(service, deploy)


def stored(service: RunningService, deploy: Mapping[str, Any]) -> dict[str, str]:
    """Store what only faults cause: a ghost, a notification, and a command that was set aside."""
    workload, job_ = parse_workload(deploy["id"]), parse_job(deploy["jobs"][0]["id"])
    path = service.node.options.data / DATABASE
    with contextlib.closing(sqlite3.connect(path, timeout=20)) as raw, raw:
        raw.execute(
            "INSERT INTO worker (name, address, state) VALUES ('w', 'here', 'disconnected')"
            " ON CONFLICT DO NOTHING"
        )
        ghost = raw.execute(
            "INSERT INTO ghost (worker, job, attempt, lease_token, build, running, since)"
            " SELECT min(id), ?, 1, ?, 0, 1, 1 FROM worker",
            (job_, workload),
        ).lastrowid
        command = raw.execute(
            "INSERT INTO set_aside (id, shard, kind, payload, workload, error, at)"
            " VALUES (?, 1, 'stop', '[]', ?, 'e', 1)",
            (workload, workload),
        ).lastrowid
        notification = raw.execute(
            "INSERT INTO notification (workload, target, host, event, at, since, due_at, state,"
            " done_at) VALUES (?, 'hook.1', 'h', 'workload.finished', 1, 1, 1, 'dead', 1)",
            (workload,),
        ).lastrowid
    return {"ghost": str(ghost), "command": str(command), "notification": str(notification)}


def filled(path: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        path = path.replace(f"{{{name}}}", value)
    return path.replace("{", "").replace("}", "")  # the others need not exist


async def status(service: RunningService, route: str, token: str | None, **values: str) -> int:
    method, path = route.split()
    answer = await service.call(method, filled(path, values) + PROBE, token=token)
    if answer.status in (403, 404):
        assert answer.error["code"] in ("forbidden", "not_a_worker", "not_found"), answer.body
    return answer.status


async def test_the_table_has_each_route(boxless_service: RunningService) -> None:
    assert routes(boxless_service) == expected().keys() | PUBLIC
    assert all(len(marks) == len(CALLERS) for marks in expected().values())


async def test_each_route_asks_for_its_right(boxless_service: RunningService) -> None:
    world = await World.make(boxless_service)
    mine = world.objects["web staging"]
    for route, marks in expected().items():
        for caller, allowed in zip(CALLERS, marks, strict=True):
            found = await status(boxless_service, route, world.tokens[caller], **mine)
            assert found == (422 if allowed else 403), (route, caller)


async def test_what_is_out_of_scope_does_not_exist(boxless_service: RunningService) -> None:
    world = await World.make(boxless_service)
    checked = set()
    for route, marks in expected().items():
        names = {name for name in HAVE_A_SCOPE if f"{{{name}}}" in route}
        for caller, allowed in zip(CALLERS, marks, strict=True):
            for other in OUT_OF_SCOPE.get(caller, ()) if names else ():
                # A limit to servers leaves the projects visible.
                visible = names == {"project"} and caller != "admin of web"
                found = await status(
                    boxless_service, route, world.tokens[caller], **world.objects[other]
                )
                wanted = 403 if not allowed else 422 if visible else 404
                assert found == wanted, (route, caller, other)
                checked.add((found, *names))
    assert checked >= {(404, name) for name in HAVE_A_SCOPE}


async def test_no_route_accepts_a_token_that_is_not_valid(boxless_service: RunningService) -> None:
    service = boxless_service
    made = [
        (await service.call("POST", f"{API}/tokens", {"role": "admin", **more})).json
        for more in ({"expires_in_seconds": 1e-3}, {})
    ]
    expired, revoked = made
    assert (await service.call("DELETE", f"{API}/tokens/{revoked['id']}")).status == 204
    wrong = tokens.new_token()  # well-formed, but never issued
    for route in expected():
        for token in (None, wrong, expired["token"], revoked["token"], "garbage"):
            assert await status(service, route, token) == 401, (route, token)


async def test_metrics_from_elsewhere_ask_for_a_right(boxless_service: RunningService) -> None:
    world = await World.make(boxless_service)
    elsewhere = {"X-Forwarded-For": "192.0.2.1"}
    for caller, mark in zip(CALLERS, METRICS.split(), strict=True):
        answer = await boxless_service.call(
            "GET", "/metrics", headers=elsewhere, token=world.tokens[caller]
        )
        assert answer.status == (200 if mark == "+" else 403), caller
    refused = await boxless_service.call("GET", "/metrics", headers=elsewhere, token=None)
    assert refused.status == 401
    assert (await boxless_service.call("GET", "/metrics", token=None)).status == 200


@pytest.mark.parametrize(
    ("caller", "method", "path", "words"),
    [
        ("viewer", "POST", "/projects/web/builds", ["right submit", "role viewer", "developer"]),
        ("viewer", "POST", "/projects/web/deploys", ["right deploy", "operator or admin"]),
        ("developer", "POST", "/projects/web/deploys", ["right deploy", "`servers`"]),
        ("developer", "PUT", "/pauses/p", ["right operate", "operator or admin"]),
        ("operator", "PUT", "/projects/web", ["right configure", "role admin"]),
        ("operator", "GET", "/tokens", ["right administer", "role admin"]),
        ("admin of web", "POST", "/workers/1/drain", ["right fleet", "limited to some projects"]),
        ("admin of staging", "DELETE", "/projects/web", ["right configure", "some servers"]),
        ("admin of web", "GET", "/nodes", ["right monitor", "use one of role viewer without"]),
        ("admin of the organization", "GET", "/nodes", ["role viewer of the instance"]),
        ("admin of web", "POST", "/workers/1/drain", ["use one of role operator without limits"]),
        ("admin of the organization", "DELETE", "/nodes/n", ["right instance", "of the instance"]),
        ("worker", "GET", "/boxes", ["role worker", "right read"]),
        ("admin", "GET", "/worker", ["right work", "role worker"]),
    ],
)
async def test_a_refusal_names_the_right_and_who_has_it(
    boxless_service: RunningService, caller: str, method: str, path: str, words: list[str]
) -> None:
    asked = {"name": caller, **CALLERS[caller]}
    made = await boxless_service.call("POST", f"{API}/tokens", asked)
    answer = await boxless_service.call(method, API + path, token=made.json["token"])
    assert answer.status == 403
    for word in words:
        assert word in answer.error["message"], answer.error


async def test_the_description_says_which_right_is_needed(boxless_service: RunningService) -> None:
    paths = (await boxless_service.get("/openapi.json"))["paths"]
    order = ["viewer", "developer of staging", "operator", "admin", "worker"]
    at = [list(CALLERS).index(caller) for caller in order]
    for route, marks in expected().items():
        method, path = route.split()
        said = paths[path][method.lower()]
        roles = {caller.split()[0] for caller, n in zip(order, at, strict=True) if marks[n]}
        if path != f"{API}/nodes":  # a developer who is limited to servers does not have it
            assert set(said["x-roles"]) == roles, route
        assert said["x-right"] in said["description"]
        assert {"401", "403"} <= said["responses"].keys()
