"""Projects: settings go in, come back, are replaced, and go."""

import msgspec
import pytest

from boxsched.secrets.owners import of_project
from boxsched.secrets.vault import is_sealed
from tests.conftest import EXAMPLES
from tests.service.house import API, House, job


async def test_put_creates_then_replaces(house: House) -> None:
    first = await house.project("web", max_boxes=4)
    assert first.status == 201
    assert first.headers["Location"] == f"{API}/projects/web"
    second = await house.project("web", max_boxes=5)
    assert second.status == 200
    seen = await house.get("/projects/web")
    assert seen == second.json
    assert seen["max_boxes"] == 5
    assert seen["name"] == "web"
    assert seen["jobs"][0]["commands"] == ["true"]


@pytest.mark.parametrize("example", ["hello.json", "web-shop.json"])
async def test_an_example_is_accepted_and_returned(house: House, example: str) -> None:
    settings = msgspec.json.decode((EXAMPLES / example).read_bytes())
    put = await house.call("PUT", f"{API}/projects/shop", settings)
    assert put.status == 201, put.body
    seen = await house.get("/projects/shop")
    for name, value in settings.items():
        if name not in ("jobs", "servers"):
            assert seen[name] == value


async def test_an_answer_can_be_put_again(house: House) -> None:
    settings = msgspec.json.decode((EXAMPLES / "web-shop.json").read_bytes())
    await house.call("PUT", f"{API}/projects/shop", settings)
    seen = await house.get("/projects/shop")
    again = await house.call("PUT", f"{API}/projects/shop", seen)
    assert (again.status, again.json) == (200, seen)


async def test_all_projects_by_name(house: House) -> None:
    await house.project("web")
    await house.project("api")
    listed = await house.get("/projects")
    assert [one["name"] for one in listed["projects"]] == ["api", "web"]


async def test_a_secret_is_kept_replaced_removed_and_never_read_back(house: House) -> None:
    put = await house.project("web", webhook_secret="canary-1")
    assert b"canary" not in put.body
    await house.project("web")
    stored = await house.node.store.project("web")
    assert stored is not None
    assert stored.webhook_secret is not None
    assert is_sealed(stored.webhook_secret)
    opened = house.node.vault.open(
        of_project(stored.id), "webhook_secret", 1, stored.webhook_secret
    )
    assert opened == "canary-1"
    await house.project("web", webhook_secret="canary-2")
    for path in ("/projects/web", "/projects"):
        answer = await house.call("GET", API + path)
        assert b"canary" not in answer.body
        assert b"webhook_secret" not in answer.body
    await house.project("web", webhook_secret=None)
    stored = await house.node.store.project("web")
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
async def test_a_way_to_clone_that_makes_no_sense(house: House, clone: object, field: str) -> None:
    answer = await house.project(repository="https://example.org/web.git", clone=clone)
    assert (answer.status, answer.error["field"]) == (422, field)


async def test_a_way_to_clone_needs_a_repository_and_comes_back(house: House) -> None:
    answer = await house.project(clone={"depth": 1})
    assert (answer.status, answer.error["field"]) == (422, "clone")
    await house.project(repository="https://example.org/web.git", clone={"depth": 1})
    assert (await house.get("/projects/web"))["clone"] == {"depth": 1, "submodules": False}


async def test_delete(house: House) -> None:
    await house.project("web")
    assert (await house.call("DELETE", f"{API}/projects/web")).status == 204
    assert (await house.call("GET", f"{API}/projects/web")).status == 404
    assert (await house.call("DELETE", f"{API}/projects/web")).status == 404
    build = await house.call("POST", f"{API}/projects/web/builds", {"branch": "main"})
    assert build.status == 404


async def test_a_project_with_unfinished_workloads_stays(waiting: House) -> None:
    await waiting.project("web")
    await waiting.build()
    answer = await waiting.call("DELETE", f"{API}/projects/web")
    assert (answer.status, answer.error["code"]) == (409, "conflict")
    assert (await waiting.call("GET", f"{API}/projects/web")).status == 200


@pytest.mark.parametrize(
    "name", ["Web", "-web", "w" * 64, "we%20b", "%00", "%C3%A9", "a%2Fb", "%ff"]
)
async def test_an_invalid_name(house: House, name: str) -> None:
    put = await house.call("PUT", f"{API}/projects/{name}", {"jobs": [job()]})
    assert (put.status, put.error["field"]) == (422, "project")
    assert (await house.call("GET", f"{API}/projects/{name}")).status == 404
    assert (await house.call("DELETE", f"{API}/projects/{name}")).status == 404


async def test_the_next_submission_sees_a_change_by_another_node(waiting: House) -> None:
    await waiting.project("web")
    assert (await waiting.build())["priority"] == 50
    # Another node: it knows nothing of what this one keeps.
    await waiting.node.store.put_project(
        "web", '{"jobs":[{"name":"a","commands":["true"]}],"priority_branches":["main"]}', None
    )
    assert (await waiting.build())["priority"] == 70
    await waiting.node.store.put_project("web", "{}", None)
    refused = await waiting.call("POST", f"{API}/projects/web/builds", {"branch": "main"})
    assert (refused.status, refused.error["field"]) == (422, "jobs")
