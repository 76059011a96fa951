"""Organizations through the API: each is a world of its own."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.api.auth.acting import HEADER
from tests.outgoing.receiver import Receiver
from tests.service.running_service import API, Answer, RunningService, job

PATIENCE_SECONDS = 30.0


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with RunningService.open(tmp_path / "data", boxes=1) as service:
        yield service


async def organization(service: RunningService, name: str = "acme", **asked: object) -> Answer:
    return await service.call("PUT", f"{API}/organizations/{name}", asked)


async def token(service: RunningService, role: str = "admin", name: str = "acme") -> str:
    asked = {"role": role, "organization": name}
    answer = await service.call("POST", f"{API}/tokens", asked)
    assert answer.status == 201, answer.body
    text: str = answer.json["token"]
    return text


class Theirs:
    """Calls with a token of another organization."""

    def __init__(self, service: RunningService, token: str) -> None:
        self.service = service
        self.token = token

    async def call(self, method: str, path: str, json: object = None, **headers: str) -> Answer:
        return await self.service.call(method, API + path, json, token=self.token, headers=headers)

    async def get(self, path: str) -> Any:
        answer = await self.call("GET", path)
        assert answer.status == 200, answer.body
        return answer.json


@pytest.fixture
async def theirs(service: RunningService) -> Theirs:
    assert (await organization(service)).status == 201
    return Theirs(service, await token(service))


async def until(theirs: Theirs, workload: str, **wanted: object) -> Any:
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        theirs.service.node.feed.subscribe(None) as events,
    ):
        while True:
            seen = await theirs.get(f"/workloads/{workload}")
            if all(seen[name] == value for name, value in wanted.items()):
                return seen
            async for _ in events:
                break


async def test_an_organization_is_created_changed_listed_and_deleted(
    service: RunningService,
) -> None:
    created = await organization(service, policy="strict", max_boxes=3)
    assert created.status == 201
    assert created.json["created_at"] is not None
    wanted = {"name": "acme", "policy": "strict", "max_boxes": 3, "priority_aging": None}
    assert {name: created.json[name] for name in wanted} == wanted
    changed = await organization(service, priority_aging=60, lost_retries=0)
    assert (changed.status, changed.json["policy"]) == (200, "backfill")
    assert (changed.json["max_boxes"], changed.json["priority_aging"]) == (None, 60)
    listed = (await service.get("/organizations"))["organizations"]
    assert [one["name"] for one in listed] == ["acme", "default"]
    assert await service.get("/organizations/acme") == changed.json == listed[0]
    deleted = await service.call("DELETE", f"{API}/organizations/acme")
    again = await service.call("DELETE", f"{API}/organizations/acme")
    assert (deleted.status, again.status) == (204, 404)
    stays = await service.call("DELETE", f"{API}/organizations/default")
    assert (stays.status, stays.error["code"]) == (409, "conflict")


@pytest.mark.parametrize(
    ("name", "asked", "field"),
    [
        ("Acme", {}, "organization"),
        ("a" * 64, {}, "organization"),
        ("acme", {"policy": "fair"}, "policy"),
        ("acme", {"max_boxes": -1}, "max_boxes"),
        ("acme", {"priority_aging": 0}, "priority_aging"),
        ("acme", {"lost_retries": 11}, "lost_retries"),
        ("acme", {"unknown": 1}, "unknown"),
    ],
)
async def test_wrong_settings_are_refused_with_their_field(
    service: RunningService, name: str, asked: dict[str, object], field: str
) -> None:
    answer = await organization(service, name, **asked)
    assert (answer.status, answer.error.get("field")) == (422, field)
    assert len((await service.get("/organizations"))["organizations"]) == 1


async def test_an_instances_token_acts_in_the_organization_that_the_header_names(
    service: RunningService,
) -> None:
    await organization(service)
    there = {HEADER: "acme"}
    put = await service.call("PUT", f"{API}/projects/web", {"jobs": [job()]}, headers=there)
    assert put.status == 201
    built = await service.call(
        "POST", f"{API}/projects/web/builds", {"branch": "main"}, headers=there
    )
    assert (built.status, built.json["project"], built.json["number"]) == (201, "web", 1)
    assert (await service.get("/projects"))["projects"] == []
    assert (await service.get("/workloads"))["workloads"] == []
    hidden = await service.call("GET", f"{API}/workloads/{built.json['id']}")
    seen = await service.call("GET", f"{API}/workloads/{built.json['id']}", headers=there)
    assert (hidden.status, seen.status) == (404, 200)
    unknown = await service.call("GET", f"{API}/projects", headers={HEADER: "other"})
    assert (unknown.status, unknown.error["code"]) == (404, "not_found")


async def test_a_token_of_an_organization_sees_nothing_of_another(
    service: RunningService, theirs: Theirs
) -> None:
    await service.project("web")
    mine = await service.build("web")
    await service.finished(mine["id"])
    job_id = (await service.look(mine["id"]))["jobs"][0]["id"]
    await service.call("PUT", f"{API}/pauses/freeze", {"note": "x"})
    for path in (
        "/projects/web",
        "/projects/web/history",
        "/projects/web/servers",
        "/projects/web/schedules",
        "/projects/web/secrets",
        f"/workloads/{mine['id']}",
        f"/workloads/{mine['id']}/explanation",
        f"/jobs/{job_id}/log",
        f"/jobs/{job_id}/artifacts",
        "/organizations/default",
    ):
        answer = await theirs.call("GET", path)
        assert answer.status == 404, path
    for method, path, body in (
        ("POST", f"/workloads/{mine['id']}/stop", {}),
        ("POST", f"/workloads/{mine['id']}/rebuild", {}),
        ("POST", f"/workloads/{mine['id']}/priority", {"priority": 1}),
        ("POST", f"/jobs/{job_id}/resolve", {"result": "passed"}),
        ("POST", "/projects/web/builds", {"branch": "main"}),
        ("DELETE", "/projects/web", None),
        ("DELETE", "/pauses/freeze", None),
    ):
        answer = await theirs.call(method, path, body)
        assert answer.status == 404, (method, path)
    for path, name in (
        ("/projects", "projects"),
        ("/workloads", "workloads"),
        ("/boxes", "boxes"),
        ("/workers", "workers"),
        ("/pauses", "pauses"),
        ("/schedules", "schedules"),
        ("/deliveries", "deliveries"),
        ("/notifications", "notifications"),
    ):
        assert (await theirs.get(path))[name] == [], path
    activity = await theirs.get("/activity")
    assert activity["boxes"] == {"total": 0, "busy": 0}
    assert all(activity[phase] == [] for phase in ("upcoming", "blocked", "running", "finished"))
    listed = (await theirs.get("/organizations"))["organizations"]
    assert [one["name"] for one in listed] == ["acme"]
    assert (await service.get("/pauses"))["pauses"][0]["name"] == "freeze"


async def test_builds_of_two_organizations_have_the_same_names_and_numbers(
    service: RunningService, theirs: Theirs
) -> None:
    await service.project("web")
    mine = await service.build("web")
    await theirs.call("PUT", "/projects/web", {"jobs": [job()]})
    its = (await theirs.call("POST", "/projects/web/builds", {"branch": "main"})).json
    assert (mine["project"], mine["number"]) == (its["project"], its["number"]) == ("web", 1)
    assert mine["id"] != its["id"]
    await service.finished(mine["id"])
    waits = await until(theirs, its["id"], state="queued")
    assert waits["number"] == 1
    why = await theirs.get(f"/workloads/{its['id']}/explanation")
    assert why["reason"] == "no_such_boxes", "the Boxes are the other organization's"
    found = await theirs.get("/workloads?project=web&number=1")
    assert [one["id"] for one in found["workloads"]] == [its["id"]]
    stopped = await theirs.call("POST", f"/workloads/{its['id']}/stop", {})
    assert (stopped.status, stopped.json["result"]) == (202, "canceled")


async def test_a_reader_gets_the_events_of_its_organization_alone(
    service: RunningService, theirs: Theirs
) -> None:
    await service.project("web")
    await theirs.call("PUT", "/projects/app", {"jobs": [job()]})
    mine = await service.build("web")
    its = (await theirs.call("POST", "/projects/app/builds", {"branch": "main"})).json
    await service.finished(mine["id"])
    await until(theirs, its["id"], state="queued")
    seen = {
        name: await events(service, text, last)
        for name, text, last in (
            ("mine", service.token, b"workload.finished"),
            ("theirs", theirs.token, b"workload.queued"),
        )
    }
    assert mine["id"].encode() in seen["mine"] and its["id"].encode() not in seen["mine"]
    assert its["id"].encode() in seen["theirs"] and mine["id"].encode() not in seen["theirs"]
    foreign = await theirs.call("GET", "/events?after=1.1.1")
    assert (foreign.status, foreign.error["field"]) == (422, "after")


async def events(service: RunningService, token: str, last: bytes) -> bytes:
    """Return the stream from the beginning up to an event of this type."""
    found = b""
    headers = {"Authorization": f"Bearer {token}"}
    after = "1.0.0" if token == service.token else "2.0.0"
    async with (
        asyncio.timeout(PATIENCE_SECONDS),
        service.client.get(f"{service.url}{API}/events?after={after}", headers=headers) as answer,
    ):
        assert answer.status == 200, await answer.read()
        async for part in answer.content.iter_any():
            found += part
            if b"event: " + last in found:
                return found
    raise AssertionError("the stream ended")


async def test_a_key_of_a_request_is_used_once_in_each_organization(
    service: RunningService,
) -> None:
    await organization(service)
    await service.project("web")
    there = {HEADER: "acme"}
    await service.call("PUT", f"{API}/projects/web", {"jobs": [job()]}, headers=there)
    path, asked, key = f"{API}/projects/web/builds", {"branch": "main"}, {"Idempotency-Key": "k"}
    first = await service.call("POST", path, asked, headers=key)
    other = await service.call("POST", path, asked, headers={**key, **there})
    again = await service.call("POST", path, asked, headers={**key, **there})
    assert (first.status, other.status, again.status) == (201, 201, 201)
    assert first.json["id"] != other.json["id"] == again.json["id"]


async def test_a_notification_of_another_organization_is_not_sent_again(tmp_path: Path) -> None:
    async with (
        Receiver.open() as receiver,
        RunningService.open(tmp_path / "data", boxes=1, allow_outgoing=("127.0.0.1",)) as service,
    ):
        hook = {"url": receiver.url, "events": ["workload.finished"]}
        await service.project(hooks=[hook])
        await service.build()
        await receiver.until(1)
        await organization(service)
        theirs = Theirs(service, await token(service))
        (sent,) = (await service.get("/notifications"))["notifications"]
        for method, path in (
            ("GET", f"/notifications/{sent['id']}"),
            ("POST", f"/notifications/{sent['id']}/resend"),
        ):
            refused = await theirs.call(method, path, {} if method == "POST" else None)
            assert refused.status == 404, path
        (now,) = (await service.get("/notifications"))["notifications"]
        assert now["attempts"] == sent["attempts"] <= 1


async def test_tokens_are_listed_and_revoked_in_their_organization(
    service: RunningService, theirs: Theirs
) -> None:
    await token(service, "viewer")
    listed = (await theirs.get("/tokens"))["tokens"]
    assert [(one["role"], one["organization"]) for one in listed] == [
        ("admin", "acme"),
        ("viewer", "acme"),
    ]
    mine = (await service.get("/tokens"))["tokens"]
    assert [one["organization"] for one in mine] == [None]
    foreign = await theirs.call("DELETE", f"/tokens/{mine[0]['id']}")
    own = await theirs.call("DELETE", f"/tokens/{listed[1]['id']}")
    assert (foreign.status, own.status) == (404, 204)
    elsewhere = await theirs.call("POST", "/tokens", {"role": "viewer", "organization": "default"})
    assert (elsewhere.status, elsewhere.error["field"]) == (422, "organization")
    assert (await theirs.get("/me"))["organization"] == "acme"


async def test_the_tokens_of_a_deleted_organization_are_invalid(
    service: RunningService, theirs: Theirs
) -> None:
    assert (await service.call("DELETE", f"{API}/organizations/acme")).status == 204
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await theirs.call("GET", "/projects")).status != 401:  # noqa: ASYNC110 (no event)
            await asyncio.sleep(0.05)


async def test_an_organization_with_unfinished_workloads_is_not_deleted(
    service: RunningService, theirs: Theirs
) -> None:
    await theirs.call("PUT", "/projects/web", {"jobs": [job()]})
    built = (await theirs.call("POST", "/projects/web/builds", {"branch": "main"})).json
    refused = await service.call("DELETE", f"{API}/organizations/acme")
    assert (refused.status, refused.error["code"]) == (409, "conflict")
    await theirs.call("POST", f"/workloads/{built['id']}/stop", {})
    await until(theirs, built["id"], state="finished")
    assert (await service.call("DELETE", f"{API}/organizations/acme")).status == 204
