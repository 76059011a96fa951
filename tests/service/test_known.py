"""What a node remembers of projects and the plan while another node changes them.

The other node is played by the store: what is written there this node is not told.
"""

import attrs
import msgspec

from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.protocol.shards import Project
from tests.service.house import API, House, job, jobs


async def put(house: House, name: str = "web", **settings: object) -> Project:
    settings.setdefault("jobs", [job()])
    project, _ = await house.node.store.put_project(
        name, msgspec.json.encode(settings).decode(), None
    )
    return project


async def plan(house: House, boxes: int | None) -> None:
    store = house.node.store
    await store.set_organization(attrs.evolve(await store.organization(), max_boxes=boxes))


async def anew(house: House, name: str = "web") -> None:
    """The project is deleted and made anew."""
    assert await house.node.store.delete_project(name)
    await put(house, name)


async def test_a_recreated_project_is_the_new_one_everywhere(house: House) -> None:
    await house.project()
    old = await house.build()
    await house.finished(old["id"])
    assert [w["id"] for w in (await house.get("/workloads?project=web"))["workloads"]]
    await anew(house)
    assert (await house.get("/workloads?project=web"))["workloads"] == []
    new = await house.build()
    listed = (await house.get("/workloads?project=web"))["workloads"]
    assert [w["id"] for w in listed] == [new["id"]]


async def test_a_project_that_went_is_gone(house: House) -> None:
    await house.project()
    await house.finished((await house.build())["id"])
    assert await house.node.store.delete_project("web")
    assert (await house.get("/workloads?project=web"))["workloads"] == []
    answer = await house.call("POST", f"{API}/projects/web/builds", {"branch": "main"})
    assert answer.status == 404


async def test_a_key_in_a_recreated_project_is_a_new_key(house: House) -> None:
    await house.project()
    headers = {"Idempotency-Key": "k"}

    async def build(branch: str) -> str:
        path = f"{API}/projects/web/builds"
        answer = await house.call("POST", path, {"branch": branch}, headers=headers)
        assert answer.status == 201, answer.body
        id_: str = answer.json["id"]
        return id_

    first = await build("main")
    assert await build("main") == first
    await house.finished(first)
    await anew(house)
    second = await build("main")
    assert second != first
    await house.finished(second)
    await anew(house)
    assert await build("another") not in (first, second), "nor is its body another one"


async def test_nothing_is_refused_by_settings_from_memory(house: House) -> None:
    await house.project()
    await house.build()
    path = f"{API}/projects/web/deploys"
    assert (await house.call("POST", path, {"server": "production"})).status == 422
    await put(house, servers={"production": {"jobs": [job("deploy")]}})
    assert (await house.call("POST", path, {"server": "production"})).status == 201
    await put(house, jobs=[])
    assert (await house.call("POST", path, {"server": "production"})).status == 422
    path = f"{API}/projects/web/builds"
    assert (await house.call("POST", path, {"branch": "main"})).status == 422, "it has no jobs now"


async def test_the_plan_is_the_clusters_not_the_nodes_own(house: House) -> None:
    await house.project(jobs=jobs(2))
    await house.finished((await house.build())["id"])
    path = f"{API}/projects/web/builds"
    await plan(house, 1)
    refused = await house.call("POST", path, {"branch": "main"})
    assert (refused.status, refused.error["field"]) == (422, "jobs")
    assert "the plan has 1" in refused.error["message"]
    await plan(house, 2)
    accepted = await house.call("POST", path, {"branch": "main"})
    assert accepted.status == 201
    assert (await house.finished(accepted.json["id"]))["result"] == "passed"


async def test_the_cache_has_a_limit_in_bytes(house: House) -> None:
    known = KnownProjects(house.node.store, at_most=100_000)
    for number in range(20):
        name = f"p{number}"
        await put(house, name, jobs=[job("test", "x" * 5_000)])
        assert (await known.get(name)).project.name == name
    assert 1 <= len(known._kept) <= 3
    assert known._bytes == sum(one.size for one in known._kept.values()) <= 100_000
    await put(house, "huge", jobs=[job("test", "x" * 50_000)])
    assert (await known.get("huge")).project.name == "huge", "it is given, and not kept"
    assert known._bytes == 0


async def test_the_oldest_entry_is_forgotten_first(house: House) -> None:
    names = ("a", "b", "c")
    for name in names:
        await put(house, name)
    one = (await KnownProjects(house.node.store).get("a")).size
    known = KnownProjects(house.node.store, at_most=2 * one + one // 2)
    for name in ("a", "b", "a", "c"):
        await known.get(name)
    assert list(known._kept) == ["a", "c"]
