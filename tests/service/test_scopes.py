"""What a token with a role or limits sees and may do, object by object."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from tests.service.running_service import (
    API,
    PATIENCE_SECONDS,
    PUBLIC_KEY,
    Answer,
    RunningService,
    job,
    jobs,
)

SERVERS = {name: {"jobs": [job()]} for name in ("staging", "production")}


async def token_for(service: RunningService, role: str, **asked: object) -> str:
    answer = await service.call("POST", f"{API}/tokens", {"role": role, **asked})
    assert answer.status == 201, answer.body
    return answer.json["token"]


async def read(service: RunningService, token: str, path: str) -> Any:
    answer = await service.call("GET", API + path, token=token)
    assert answer.status == 200, (path, answer.body)
    return answer.json


async def two_projects(service: RunningService) -> None:
    for project in ("web", "api"):
        assert (await service.project(project, servers=SERVERS)).status == 201


async def submit(service: RunningService, token: str, path: str, **asked: object) -> Answer:
    return await service.call("POST", f"{API}/projects/{path}", asked, token=token)


# --- Limits to projects ---------------------------------------------------------------------


async def test_lists_show_only_what_is_in_scope(boxless_service: RunningService) -> None:
    service = boxless_service
    await two_projects(service)
    await service.project(
        "web-old", servers=SERVERS, schedules=[{"cron": "@daily", "branch": "main"}]
    )
    builds = {name: (await service.build(name))["id"] for name in ("web", "api", "web-old")}
    for name, asked in (
        ("all", {"note": "n"}),
        ("of-web", {"note": "n", "project": "web"}),
        ("of-api", {"note": "n", "project": "api"}),
    ):
        assert (await service.call("PUT", f"{API}/pauses/{name}", asked)).status == 201
    for pattern, names in (("web*", ["web", "web-old"]), ("web", ["web"]), ("no*", [])):
        token = await token_for(service, "viewer", projects=[pattern])
        shown = await read(service, token, "/projects")
        assert [one["name"] for one in shown["projects"]] == names
        listed = await read(service, token, "/workloads")
        assert [one["id"] for one in listed["workloads"]] == [builds[n] for n in reversed(names)]
        activity = await read(service, token, "/activity")
        rows = [row for name in ("upcoming", "blocked", "running") for row in activity[name]]
        assert [row["project"] for row in rows] == names
        pauses = [one["name"] for one in (await read(service, token, "/pauses"))["pauses"]]
        assert pauses == ["all", *(["of-web"] if names else [])]
        schedules = (await read(service, token, "/schedules"))["schedules"]
        assert [one["project"] for one in schedules] == names[1:]
    token = await token_for(service, "viewer", projects=["web"])
    for query, found in (("project=api", []), ("project=web", [builds["web"]])):
        listed = await read(service, token, f"/workloads?{query}")
        assert [one["id"] for one in listed["workloads"]] == found
    for project, count in (("api", 0), ("web", 1)):
        listed = await read(service, token, f"/workloads?project={project}&number=1")
        assert len(listed["workloads"]) == count


async def test_pages_are_filled_with_what_is_in_scope(boxless_service: RunningService) -> None:
    """One of four workloads is in scope; pages of three, over more than one page of the store."""
    service = boxless_service
    for name in ("web-a", "web-b", "api"):
        await service.project(name)
    order = ["web-a", "api", "api", "web-b", "api", "api"] * 4
    own = []
    for number, name in enumerate(order):
        build = await service.build(name, branch=str(number))
        own += [build["id"]] if name != "api" else []
    token = await token_for(service, "viewer", projects=["web-*"])
    cursor, pages = "", []
    while cursor is not None:
        page = await read(service, token, f"/workloads?limit=3{cursor and f'&cursor={cursor}'}")
        pages.append([one["id"] for one in page["workloads"]])
        cursor = page["next_cursor"]
    assert [id_ for page in pages for id_ in page] == own[::-1]
    assert [len(page) for page in pages[:2]] == [3, 3]


async def test_what_is_not_in_scope_is_answered_as_if_it_did_not_exist(
    boxless_service: RunningService,
) -> None:
    service = boxless_service
    await two_projects(service)
    hidden = await service.build("api")
    token = await token_for(service, "operator", projects=["web"])
    for path in ("/projects/{}", "/projects/{}/servers", "/projects/{}/history"):
        there = await service.call("GET", API + path.format("api"), token=token)
        nowhere = await service.call("GET", API + path.format("apx"), token=token)
        assert there.status == 404
        assert there.body == nowhere.body.replace(b"apx", b"api")
    answer = await service.call("GET", f"{API}/workloads/{hidden['id']}", token=token)
    assert answer.status == 404
    assert f"there is no workload '{hidden['id']}'" in answer.error["message"]
    for path, asked in (
        ("web/deploys", {"server": "staging"}),
        ("web/ssh-sessions", {"public_key": PUBLIC_KEY}),
    ):
        answer = await submit(service, token, path, build=hidden["id"], **asked)
        assert (answer.status, answer.error["field"]) == (404, "build")


async def test_reasons_name_nothing_that_is_not_in_scope(
    executing_service: RunningService,
) -> None:
    """Two Boxes. A build of api has one, and its next needs two. So those of web wait for it."""
    service = executing_service
    await two_projects(service)
    hold = job("hold", "sleep 600")
    await service.build("api", jobs=[hold])
    await service.until_event(lambda event: event.type == "job.started")
    await service.build("api", branch="next", jobs=jobs(2))
    small = (await service.build("web", jobs=[hold]))["id"]
    await service.until(small, state="queued")
    token = await token_for(service, "viewer", projects=["web"])
    whys = []
    for viewer in ("", token):
        explained = await read(service, viewer, f"/workloads/{small}/explanation")
        listed = (await read(service, viewer, "/workloads?project=web&why=1"))["workloads"]
        rows = (await read(service, viewer, "/activity"))["blocked"]
        shown = [row["why"] for row in (*listed, *rows) if row["id"] == small]
        assert len(shown) == 2
        whys.append((explained["text"], *shown))
        assert bool(explained["blocked_by"]) == (viewer == "")
        assert (explained["position"], explained["phase"]) == (2, "admission")
    assert all("build #2 of api" in text for text in whys[0])
    assert all("one of another project or server" in text for text in whys[1])
    assert "api" not in "".join(whys[1])


@contextlib.asynccontextmanager
async def stream(service: RunningService, token: str) -> AsyncIterator[aiohttp.StreamReader]:
    headers = {"Authorization": f"Bearer {token}"}
    async with service.client.get(f"{service.url}{API}/events", headers=headers) as response:
        assert response.status == 200
        yield response.content


async def until(content: aiohttp.StreamReader, last: str) -> list[dict[str, Any]]:
    """Return the events up to the one that finishes this workload."""
    found = []
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for line in content:
            if line.startswith(b"data: "):
                found.append(json.loads(line[6:]))
                event = found[-1]
                if (event["type"], event.get("workload")) == ("workload.finished", last):
                    return found
    raise AssertionError("the stream ended")


async def test_a_stream_has_only_events_that_are_in_scope(service: RunningService) -> None:
    await two_projects(service)
    by_project = await token_for(service, "viewer", projects=["web"])
    by_server = await token_for(service, "viewer", servers=["staging"])
    async with stream(service, by_project) as web, stream(service, by_server) as staging:
        hidden = [await service.build("api"), await service.deploy("production", "api")]
        production = await service.deploy("production")
        for one in (*hidden, production):
            await service.finished(one["id"])
        asked = {"note": "n", "project": "api", "server": "production"}
        await service.call("PUT", f"{API}/pauses/p", asked)
        await service.project("api")  # project.changed
        last = await service.deploy("staging")
        seen = await until(web, last["id"])
        assert {one["workload"] for one in seen if "workload" in one} == {
            production["id"], last["id"],
        }  # fmt: skip
        assert {one.get("project") for one in seen} <= {"web", None}
        types = {one["type"] for one in seen if one["workload"] == last["id"]}
        assert {"workload.registered", "job.started", "job.finished"} <= types
        seen = await until(staging, last["id"])
        assert {one["workload"] for one in seen if "workload" in one} == {
            hidden[0]["id"], last["id"],
        }  # fmt: skip
        assert "pause.set" not in {one["type"] for one in seen}


async def test_a_box_is_busy_whatever_runs_on_it(executing_service: RunningService) -> None:
    service = executing_service
    await two_projects(service)
    running = await service.build("api", jobs=[job("hold", "sleep 60")])
    await service.until_event(lambda event: event.type == "job.started")
    token = await token_for(service, "viewer", projects=["web"])
    busy, free = sorted(
        (await read(service, token, "/boxes"))["boxes"], key=lambda one: not one["busy"]
    )
    assert (busy["busy"], busy["job"], busy["job_name"], busy["workload"]) == (
        True, None, None, None,
    )  # fmt: skip
    assert not free["busy"]
    assert running["id"] in {one["workload"] for one in (await service.get("/boxes"))["boxes"]}
    counts = (await read(service, token, "/activity"))["boxes"]
    assert (counts["total"], counts["busy"]) == (2, 1)


# --- Limits to servers ----------------------------------------------------------------------


async def test_servers_that_are_not_in_scope_are_not_shown(boxless_service: RunningService) -> None:
    service = boxless_service
    await two_projects(service)
    await service.project("web", servers=SERVERS | {"qa": {"jobs": [job()]}})
    deploys = [(await service.deploy(name))["id"] for name in ("staging", "production")]
    token = await token_for(service, "viewer", servers=["stag*"])
    shown = await read(service, token, "/projects/web/servers")
    assert [one["name"] for one in shown["servers"]] == ["staging"]
    assert (await read(service, token, "/projects/web"))["servers"].keys() == {"staging"}
    [one, _] = (await read(service, token, "/projects"))["projects"]
    assert one["servers"].keys() == {"staging"} or one["name"] == "api"
    listed = await read(service, token, "/workloads")
    assert [one["id"] for one in listed["workloads"]] == deploys[:1]
    history = await read(service, token, "/projects/web/history")
    assert history["versions"][0]["changed"] == []
    version = history["versions"][0]["version"]
    whole = await read(service, token, f"/projects/web/history/{version}")
    assert whole["settings"]["servers"].keys() == {"staging"}
    assert (await service.get("/projects/web/history"))["versions"][0]["changed"] == ["servers.qa"]


# --- Roles ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "limits", "staging", "production", "unknown"),
    [
        ("viewer", {}, 403, 403, 403),
        ("developer", {}, 403, 403, 403),
        ("developer", {"servers": ["staging", "qa"]}, 201, 404, 404),
        ("developer", {"servers": ["*"]}, 201, 201, 422),
        ("operator", {}, 201, 201, 422),
        ("operator", {"servers": ["staging"]}, 201, 404, 404),
        ("operator", {"projects": ["api"]}, 404, 404, 404),
        ("admin", {}, 201, 201, 422),
    ],
)
async def test_who_may_deploy_where(
    boxless_service: RunningService,
    role: str,
    limits: dict[str, Any],
    staging: int,
    production: int,
    unknown: int,
) -> None:
    service = boxless_service
    await two_projects(service)
    token = await token_for(service, role, **limits)
    for server, wanted in (("staging", staging), ("production", production), ("prod", unknown)):
        answer = await submit(service, token, "web/deploys", server=server)
        assert answer.status == wanted, (server, answer.body)
        if wanted == 404 and "projects" not in limits:
            assert answer.error["field"] == "server"
        assert wanted == 201 or b"production" not in answer.body.replace(server.encode(), b"")
        # A deploy that somebody else asked for.
        theirs = await service.deploy("production" if server == "prod" else server)
        again = await service.call("POST", f"{API}/workloads/{theirs['id']}/rebuild", token=token)
        assert again.status == (production if wanted == 422 else wanted)


async def test_the_hint_for_a_mistyped_server_names_none_that_is_hidden(
    boxless_service: RunningService,
) -> None:
    await two_projects(boxless_service)
    token = await token_for(boxless_service, "developer", servers=["staging", "productiom"])
    answer = await submit(boxless_service, token, "web/deploys", server="productiom")
    assert answer.status == 422 and "'staging'" not in answer.error["message"]
    assert "production" not in answer.error["message"].replace("productiom", "")


@pytest.mark.parametrize(
    ("role", "limits", "build", "session", "deploy"),
    [
        ("viewer", {}, 403, 403, 403),
        ("developer", {}, 202, 202, 403),
        ("developer", {"servers": ["*"]}, 202, 202, 403),
        ("developer", {"projects": ["api"]}, 404, 404, 404),
        ("operator", {}, 202, 202, 202),
        ("operator", {"servers": ["staging"]}, 202, 202, 404),
    ],
)
async def test_who_may_stop_what(
    boxless_service: RunningService,
    role: str,
    limits: dict[str, Any],
    build: int,
    session: int,
    deploy: int,
) -> None:
    service = boxless_service
    await two_projects(service)
    token = await token_for(service, role, **limits)
    made = await submit(service, "", "web/ssh-sessions", branch="main", public_key=PUBLIC_KEY)
    for id_, wanted in (
        ((await service.build())["id"], build),
        (made.json["id"], session),
        ((await service.deploy("production"))["id"], deploy),
    ):
        answer = await service.call("POST", f"{API}/workloads/{id_}/stop", token=token)
        assert answer.status == wanted, answer.body
        if wanted == 403 and role == "developer":
            assert "right operate" in answer.error["message"]


async def test_a_pause_needs_a_scope_that_has_all_it_covers(
    boxless_service: RunningService,
) -> None:
    service = boxless_service
    await two_projects(service)
    web = await token_for(service, "operator", projects=["web"])
    staging = await token_for(service, "operator", servers=["staging"])
    for token, asked, wanted in (
        (web, {}, 403),
        (web, {"project": "web"}, 201),
        (web, {"project": "api"}, 404),
        (web, {"project": "web", "server": "production"}, 201),
        (staging, {}, 403),
        (staging, {"project": "web"}, 403),
        (staging, {"project": "web", "branch": "main"}, 201),
        (staging, {"project": "web", "server": "staging"}, 201),
        (staging, {"project": "web", "server": "production"}, 404),
    ):
        answer = await service.call("PUT", f"{API}/pauses/p", {"note": "n", **asked}, token=token)
        assert answer.status == wanted, (asked, answer.body)
        if wanted == 201:
            assert (await service.call("DELETE", f"{API}/pauses/p", token=token)).status == 204
    # Another's pause, of the same name.
    for asked, replaces, ends in (
        ({"project": "api"}, 404, 404),
        ({}, 403, 403),
        ({"project": "web"}, 200, 204),
    ):
        await service.call("PUT", f"{API}/pauses/q", {"note": "n", **asked})
        mine = {"note": "n", "project": "web"}
        answer = await service.call("PUT", f"{API}/pauses/q", mine, token=web)
        assert answer.status == replaces
        assert (await service.call("DELETE", f"{API}/pauses/q", token=web)).status == ends


# --- What one may do ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "rights"),
    [
        ({"role": "viewer"}, "read monitor"),
        ({"role": "viewer", "projects": ["web"]}, "read"),
        ({"role": "developer"}, "read monitor submit stop"),
        ({"role": "developer", "servers": ["s"]}, "read submit stop deploy"),
        ({"role": "operator"}, "read monitor submit stop deploy operate fleet"),
        (
            {"role": "admin", "organization": "default"},
            "read submit stop deploy operate fleet configure administer",
        ),
        (
            {"role": "admin"},
            "read monitor submit stop deploy operate fleet configure administer instance",
        ),
    ],
)
async def test_a_caller_is_told_its_rights(
    boxless_service: RunningService, asked: dict[str, Any], rights: str
) -> None:
    token = await token_for(boxless_service, name="me", **asked)
    me = await read(boxless_service, token, "/me")
    assert me["rights"] == rights.split()
    assert (me["name"], me["role"]) == ("me", asked["role"])
    assert (me["projects"], me["servers"]) == (asked.get("projects"), asked.get("servers"))
    assert me["organization"] == asked.get("organization")
