"""Projects: settings are stored, returned, replaced and deleted."""

import json

import msgspec
import pytest

from boxsched.secrets.owners import of_project
from boxsched.secrets.vault import is_sealed
from tests.conftest import EXAMPLES
from tests.service.running_service import API, RunningService, job


async def test_put_creates_then_replaces(service: RunningService) -> None:
    first = await service.project("web", max_boxes=4)
    assert first.status == 201
    assert first.headers["Location"] == f"{API}/projects/web"
    second = await service.project("web", max_boxes=5)
    assert second.status == 200
    seen = await service.get("/projects/web")
    assert seen == second.json
    assert seen["max_boxes"] == 5
    assert seen["name"] == "web"
    assert seen["jobs"][0]["commands"] == ["true"]


@pytest.mark.parametrize("example", ["hello.json", "web-shop.json"])
async def test_an_example_is_accepted_and_returned(service: RunningService, example: str) -> None:
    settings = msgspec.json.decode((EXAMPLES / example).read_bytes())
    put = await service.call("PUT", f"{API}/projects/shop", settings)
    assert put.status == 201, put.body
    seen = await service.get("/projects/shop")
    for name, value in settings.items():
        if name not in ("jobs", "servers"):
            assert seen[name] == value


async def test_an_answer_can_be_sent_back(service: RunningService) -> None:
    settings = msgspec.json.decode((EXAMPLES / "web-shop.json").read_bytes())
    await service.call("PUT", f"{API}/projects/shop", settings)
    seen = await service.get("/projects/shop")
    again = await service.call("PUT", f"{API}/projects/shop", seen)
    assert (again.status, again.json) == (200, seen)


async def test_all_projects_are_listed_by_name(service: RunningService) -> None:
    await service.project("web")
    await service.project("api")
    listed = await service.get("/projects")
    assert [one["name"] for one in listed["projects"]] == ["api", "web"]


async def test_a_secret_is_kept_replaced_removed_and_never_returned(
    service: RunningService,
) -> None:
    put = await service.project("web", webhook_secret="canary-1")
    assert b"canary" not in put.body
    await service.project("web")
    stored = await service.node.store.project("web")
    assert stored is not None
    assert stored.webhook_secret is not None
    assert is_sealed(stored.webhook_secret)
    opened = service.node.vault.open(
        of_project(stored.id), "webhook_secret", 1, stored.webhook_secret
    )
    assert opened == "canary-1"
    await service.project("web", webhook_secret="canary-2")
    for path in ("/projects/web", "/projects"):
        answer = await service.call("GET", API + path)
        assert b"canary" not in answer.body
        assert b"webhook_secret" not in answer.body
    await service.project("web", webhook_secret=None)
    stored = await service.node.store.project("web")
    assert stored is not None
    assert stored.webhook_secret is None


@pytest.mark.parametrize(
    ("clone", "field"),
    [
        ({"depth": 0}, "clone.depth"),
        ({"depth": 1.5}, "clone.depth"),
        ({"depth": 1_000_001}, "clone.depth"),
        ({"submodules": "yes"}, "clone.submodules"),
        ({"tags": True}, "clone.tags"),
        ([], "clone"),
    ],
)
async def test_an_invalid_clone_setting_is_refused(
    service: RunningService, clone: object, field: str
) -> None:
    answer = await service.project(repository="https://example.org/web.git", clone=clone)
    assert (answer.status, answer.error["field"]) == (422, field)


async def test_a_clone_setting_needs_a_repository_and_is_returned(service: RunningService) -> None:
    answer = await service.project(clone={"depth": 1})
    assert (answer.status, answer.error["field"]) == (422, "clone")
    await service.project(repository="https://example.org/web.git", clone={"depth": 1})
    assert (await service.get("/projects/web"))["clone"] == {"depth": 1, "submodules": False}


async def test_a_project_is_deleted(service: RunningService) -> None:
    await service.project("web")
    assert (await service.call("DELETE", f"{API}/projects/web")).status == 204
    assert (await service.call("GET", f"{API}/projects/web")).status == 404
    assert (await service.call("DELETE", f"{API}/projects/web")).status == 404
    build = await service.call("POST", f"{API}/projects/web/builds", {"branch": "main"})
    assert build.status == 404


async def test_a_project_with_unfinished_workloads_is_not_deleted(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web")
    await boxless_service.build()
    answer = await boxless_service.call("DELETE", f"{API}/projects/web")
    assert (answer.status, answer.error["code"]) == (409, "conflict")
    assert (await boxless_service.call("GET", f"{API}/projects/web")).status == 200


@pytest.mark.parametrize(
    "name", ["Web", "-web", "w" * 64, "we%20b", "%00", "%C3%A9", "a%2Fb", "%ff"]
)
async def test_an_invalid_name_is_refused(service: RunningService, name: str) -> None:
    put = await service.call("PUT", f"{API}/projects/{name}", {"jobs": [job()]})
    assert (put.status, put.error["field"]) == (422, "project")
    assert (await service.call("GET", f"{API}/projects/{name}")).status == 404
    assert (await service.call("DELETE", f"{API}/projects/{name}")).status == 404


async def test_the_next_submission_sees_a_change_by_another_node(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web")
    assert (await boxless_service.build())["priority"] == 50
    # Another node: it knows nothing of this node's memory.
    await boxless_service.node.store.put_project(
        "web", '{"jobs":[{"name":"a","commands":["true"]}],"priority_branches":["main"]}', None
    )
    assert (await boxless_service.build())["priority"] == 70
    await boxless_service.node.store.put_project("web", "{}", None)
    refused = await boxless_service.call("POST", f"{API}/projects/web/builds", {"branch": "main"})
    assert (refused.status, refused.error["field"]) == (422, "jobs")


async def test_what_is_stored_has_no_defaults_so_that_earlier_versions_can_read_it(
    boxless_service: RunningService,
) -> None:
    service = boxless_service
    settings = {
        "jobs": [job("a", timeout_seconds=9), job("b", parallelism=2)],
        "servers": {"live": {"jobs": [job("c")]}, "next": {"queue": "newest"}},
        "cancellation": [["main", "none"], ["*", "all", {"spare_after": 3}]],
        "fail_fast": True,
    }
    before = (await service.project(**settings)).json
    stored = await service.node.store.project("web")
    assert stored is not None
    assert json.loads(stored.settings) == settings
    shown = await service.get("/projects/web")
    assert shown == before
    assert shown["jobs"][0]["parallelism"] is None
    assert (shown["servers"]["live"]["queue"], shown["servers"]["live"]["guard"]) == ("all", False)
