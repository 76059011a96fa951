"""Boxes, workers, health, metrics, and the OpenAPI description."""

import json
import re
from email.utils import parsedate_to_datetime

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from activity_monitor.pages import VIEWS
from boxsched.api.auth.tokens import new_token
from boxsched.errors import StoreAway
from boxsched.protocol import wire
from tests.service.running_service import API, RunningService, job


async def test_boxes_and_workers_are_listed(executing_service: RunningService) -> None:
    await executing_service.project("web", jobs=[job("long", "sleep 60")])
    made = await executing_service.build()
    await executing_service.until(made["id"], state="running")
    boxes = (await executing_service.get("/boxes"))["boxes"]
    assert len(boxes) == 2
    [busy] = [box for box in boxes if box["job"]]
    assert (busy["workload"], busy["job"], busy["job_name"]) == (
        made["id"],
        f"{made['id']}-1",
        "long",
    )
    [worker] = (await executing_service.get("/workers"))["workers"]
    assert worker.keys() >= {
        "id", "name", "address", "state", "boxes", "builds", "deploys", "ssh_sessions",
    }  # fmt: skip
    assert (worker["state"], worker["boxes"], worker["builds"]) == ("connected", 2, 1)
    await executing_service.call("POST", f"{API}/workloads/{made['id']}/stop")


async def test_health_answers(service: RunningService) -> None:
    for path in ("/healthz", "/readyz"):
        assert (await service.call("GET", path, token=None)).status == 200
        assert (await service.call("HEAD", path, token=None)).status == 200
    service.node.stopping = True
    answer = await service.call("GET", "/readyz", token=None)
    assert answer.status == 503
    assert "Retry-After" in answer.headers
    assert (await service.call("GET", "/healthz", token=None)).status == 200


async def test_metrics_are_served(service: RunningService) -> None:
    await service.project("web")
    await service.finished((await service.build())["id"])
    answer = await service.call("GET", "/metrics", token=None)
    assert answer.status == 200
    families = {one.name: one for one in text_string_to_metric_families(answer.body.decode())}
    assert families["boxsched_workloads_finished"].samples[0].value == 1
    (boxes,) = families["boxsched_boxes"].samples
    assert (boxes.labels, boxes.value) == ({"organization": "default"}, 2)
    for name in ("bus_up", "bus_trips", "bus_hints_dropped", "bus_hints_refused"):
        assert families[f"boxsched_{name}"].samples[0].value == 0, name
    posted = [
        one
        for one in families["boxsched_http_requests"].samples
        if one.labels == {"route": f"POST {API}/projects/{{project}}/builds", "status": "201"}
    ]
    assert posted[0].value == 1


async def test_metrics_show_what_caches_did(executing_service: RunningService) -> None:
    """The second build finds what the first left. What the first took is set to an hour."""
    service = executing_service
    work = {"name": "work", "commands": ["mkdir -p kept; touch kept/n"]}
    await service.project("web", cache=["kept"], jobs=[work])
    await service.finished((await service.build())["id"])
    (durations,) = service.node.options.data.glob("**/durations.json")
    (key,) = json.loads(durations.read_text())
    durations.write_text(json.dumps({key: [3_600.0]}))
    await service.finished((await service.build())["id"])
    told = (await service.call("GET", "/metrics")).body.decode()
    counted = {
        (one.name, *one.labels.values()): one.value
        for family in text_string_to_metric_families(told)
        for one in family.samples
        if one.name.startswith("boxsched_cache")
    }
    lookups = [counted["boxsched_cache_lookups_total", it] for it in ("hit", "miss", "damaged")]
    assert lookups == [1, 1, 0]
    assert 3_400 < counted["boxsched_cache_seconds_total", "saved"] < 3_600
    assert counted["boxsched_cache_seconds_total", "lost"] == 0


async def test_metrics_from_another_machine_need_a_token(service: RunningService) -> None:
    for header in ("X-Forwarded-For", "Forwarded", "Via", "X-Real-IP", "x-forwarded-HOST"):
        passed_on = {header: "192.0.2.1"}
        assert (await service.call("GET", "/metrics", token=None, headers=passed_on)).status == 401
        assert (await service.call("GET", "/metrics", headers=passed_on)).status == 200


async def test_metrics_under_another_host_name_need_a_token(service: RunningService) -> None:
    """Another site's name can lead a browser on this machine here."""
    for host, status in (
        ("localhost", 200),
        ("LocalHost:9", 200),
        ("127.0.0.1", 200),
        ("127.1.2.3:65535", 200),
        ("[::1]", 200),
        ("[::1]:8080", 200),
        ("evil.example", 401),
        ("localhost.evil.example", 401),
        ("127.0.0.1.evil.example:80", 401),
        ("192.0.2.1", 401),
        ("[2001:db8::1]:80", 401),
        ("::1", 401),
        ("127.0.0.1:x", 401),
        ("localhost:80:80", 401),
        ("0.0.0.0", 401),
        ("", 401),
    ):
        headers = {"Host": host}
        answer = await service.call("GET", "/metrics", token=None, headers=headers)
        assert answer.status == status, host
        assert (await service.call("GET", "/metrics", headers=headers)).status == 200, host


async def test_answers_while_the_database_is_away(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await service.project("web")

    async def away(*_: object, **__: object) -> None:
        raise StoreAway("the database does not answer")

    for name in (
        "ping",
        "submit",
        "workload",
        "workloads",
        "projects",
        "activity",
        "last_events",
        "boxes",
        "nodes",
        "token",
        "tokens",
        "put_token",
        "job_state",
    ):
        monkeypatch.setattr(service.node.store, name, away)
    for method, path, body in (
        ("GET", "/readyz", None),
        ("POST", f"{API}/projects/web/builds", {"branch": "main"}),
        ("GET", f"{API}/workloads/w1", None),
        ("GET", f"{API}/workloads", None),
        ("GET", f"{API}/projects", None),
        ("GET", f"{API}/events", None),
        ("GET", f"{API}/activity", None),
        ("GET", f"{API}/boxes", None),
        ("GET", f"{API}/jobs/w1-1/log", None),
        ("GET", f"{API}/nodes", None),
        ("GET", f"{API}/tokens", None),
        ("POST", f"{API}/tokens", {"role": "admin"}),
    ):
        answer = await service.call(method, path, body)
        assert (answer.status, answer.error["code"]) == (503, "store_away"), path
        assert int(answer.headers["Retry-After"]) >= 1
    # Nobody can tell whether the token is valid, so this is no 401.
    answer = await service.call("GET", f"{API}/openapi.json", token=new_token())
    assert (answer.status, answer.error["code"]) == (503, "store_away")
    assert (await service.call("GET", f"{API}/openapi.json")).status == 200
    monkeypatch.undo()
    assert (await service.call("GET", f"{API}/activity")).status == 200


# --- openapi.json ---------------------------------------------------------------------------


async def test_every_answer_is_as_described(service: RunningService) -> None:
    described = await service.get("/openapi.json")
    assert described["openapi"].startswith("3.1")
    await service.project("web", servers={"s": {"jobs": [job()]}}, cancellation=[["*", "all"]])
    build = await service.build(commit="abcdef0", message="m")
    await service.finished(build["id"])
    id_, tried = build["id"], set()
    for method, path, body in (
        ("PUT", "/projects/web", {"jobs": [job()], "fail_fast": ["a"], "max_boxes": 3}),
        ("GET", "/projects/web", None),
        ("GET", "/projects", None),
        ("POST", "/projects/web/builds", {"branch": "x"}),
        ("GET", "/workloads", None),
        ("GET", f"/workloads/{id_}", None),
        ("GET", f"/workloads/{id_}/explanation", None),
        ("POST", f"/workloads/{id_}/rebuild", {}),
        ("POST", f"/workloads/{id_}/stop", {}),
        ("GET", "/activity", None),
        ("GET", "/boxes", None),
        ("GET", "/workers", None),
        ("GET", "/nodes", None),
        ("POST", "/tokens", {"role": "worker", "name": "w", "expires_in_seconds": 60}),
        ("GET", "/tokens", None),
        ("POST", "/tokens", {"role": "king"}),
        ("POST", "/projects/web/builds", {"branch": ""}),
        ("GET", "/workloads/w99", None),
    ):
        answer = await service.call(method, API + path, body)
        template = path.replace(id_, "{workload}").replace("/w99", "/{workload}")
        template = API + template.replace("/projects/web", "/projects/{project}")
        operation = described["paths"][template][method.lower()]
        schema = operation["responses"][str(answer.status)]["content"]["application/json"]["schema"]
        check(answer.json, schema, described)
        if body is not None and answer.status < 400:
            asked = operation["requestBody"]["content"]["application/json"]["schema"]
            check(body, asked, described)
        tried.add(answer.status)
    assert {200, 201, 404, 409, 422} <= tried


def check(value: object, schema: dict, described: dict) -> None:
    jsonschema.Draft202012Validator({**schema, "components": described["components"]}).validate(
        value
    )


async def test_the_description_refuses_the_same_requests_as_the_service(
    service: RunningService,
) -> None:
    """The limits are in the description, not only in the code."""
    described = await service.get("/openapi.json")
    asked = {"$ref": "#/components/schemas/AskBuild"}
    await service.project("web")
    for body in (
        {"branch": 1},
        {"branch": "a", "surprise": 1},
        {"branch": "a", "priority": 101},
        {"branch": "a", "commit": "xyz"},
        {"branch": "a\n"},
        {"branch": "a", "jobs": []},
        {"branch": "a", "jobs": [{"name": "x", "commands": []}]},
    ):
        answer = await service.call("POST", f"{API}/projects/web/builds", body)
        assert answer.status == 422, body
        with pytest.raises(jsonschema.ValidationError):
            check(body, asked, described)


async def test_every_route_is_described_and_every_description_has_a_route(
    service: RunningService,
) -> None:
    described = await service.get("/openapi.json")
    operations = {
        (method.upper(), path) for path, methods in described["paths"].items() for method in methods
    }
    routed = {
        (route.method, route.resource.canonical)
        for route in service.runner.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    signing = {(method, f"/sign-{way}") for method in ("GET", "POST") for way in ("in", "out")}
    page = {("GET", "/"), ("GET", "/static/{version}/{name}")}
    page |= {("GET", view.path) for view in VIEWS}
    assert routed - operations == page | signing
    assert operations <= routed


async def test_the_description_contains_parameters_and_headers(service: RunningService) -> None:
    paths = (await service.get("/openapi.json"))["paths"]
    for path, methods in paths.items():
        for method, operation in methods.items():
            found = {(one["in"], one["name"]) for one in operation.get("parameters", [])}
            in_path = {("path", name) for name in re.findall(r"{(\w+)}", path)}
            assert {one for one in found if one[0] == "path"} == in_path, f"{method} {path}"
    assert [one["name"] for one in paths[f"{API}/notifications"]["get"]["parameters"]] == [
        "state", "limit", "cursor",
    ]  # fmt: skip
    keyed = paths[f"{API}/projects/{{project}}/builds"]["post"]["parameters"]
    assert ("header", "Idempotency-Key") in {(one["in"], one["name"]) for one in keyed}


async def test_every_description_has_its_schemas(service: RunningService) -> None:
    described = await service.get("/openapi.json")
    components = described["components"]["schemas"]
    error = components["ErrorAnswer"]["properties"]["error"]["$ref"].rpartition("/")[2]
    assert set(components[error]["properties"]) == {"code", "message", "field"}
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            name = f"{method} {path}"
            # The body of a delivery is defined by the code host; workers also send bytes.
            sent = ("/webhooks/", wire.POLLS, wire.TUNNELS)
            undescribed = path.startswith(sent) or "/artifacts/" in path
            described_body = method in ("post", "put") and not undescribed
            assert ("requestBody" in operation) == described_body, name
            for asked in operation.get("requestBody", {}).get("content", {}).values():
                assert asked["schema"], name
            for status, answer in operation["responses"].items():
                if status in ("101", "204"):
                    assert "content" not in answer
                    continue
                [content] = answer["content"].values()
                assert content["schema"], name
                if int(status) >= 400:
                    assert content["schema"] == {"$ref": "#/components/schemas/ErrorAnswer"}, name


async def test_an_internal_error_is_counted(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken() -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(service.node.store, "nodes", broken)
    assert (await service.call("GET", f"{API}/nodes")).status == 500
    told = (await service.call("GET", "/metrics")).body.decode()
    counted = 'boxsched_http_requests_total{route="GET /api/v1/nodes",status="500"} 1.0'
    assert counted in told.splitlines()


async def test_answers_use_the_databases_clock_for_their_date(
    executing_service: RunningService,
) -> None:
    """A machine's wall clock may be wrong; the node uses the database's."""
    executing_service.node.clock.set_to(executing_service.node.clock.now() + 86_400)
    answer = await executing_service.call("GET", "/healthz")
    dated = parsedate_to_datetime(answer.headers["Date"]).timestamp()
    assert abs(dated - executing_service.node.clock.now()) < 60
