"""What a node remembers of projects and the plan while another node changes them.

The test plays the other node: it writes to the store, and this node is not told.
"""

import attrs
import msgspec

from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.protocol.shards import Project
from tests.service.running_service import API, RunningService, job, jobs


async def put(service: RunningService, name: str = "web", **settings: object) -> Project:
    settings.setdefault("jobs", [job()])
    project, _ = await service.node.store.put_project(
        name, msgspec.json.encode(settings).decode(), None
    )
    return project


async def plan(service: RunningService, boxes: int | None) -> None:
    store = service.node.store
    await store.set_organization(attrs.evolve(await store.organization(), max_boxes=boxes))


async def anew(service: RunningService, name: str = "web") -> None:
    """Delete the project and create it again."""
    assert await service.node.store.delete_project(name)
    await put(service, name)


async def test_a_recreated_project_is_the_new_one_everywhere(service: RunningService) -> None:
    await service.project()
    old = await service.build()
    await service.finished(old["id"])
    assert [w["id"] for w in (await service.get("/workloads?project=web"))["workloads"]]
    await anew(service)
    assert (await service.get("/workloads?project=web"))["workloads"] == []
    new = await service.build()
    listed = (await service.get("/workloads?project=web"))["workloads"]
    assert [w["id"] for w in listed] == [new["id"]]


async def test_a_deleted_project_is_unknown(service: RunningService) -> None:
    await service.project()
    await service.finished((await service.build())["id"])
    assert await service.node.store.delete_project("web")
    assert (await service.get("/workloads?project=web"))["workloads"] == []
    answer = await service.call("POST", f"{API}/projects/web/builds", {"branch": "main"})
    assert answer.status == 404


async def test_a_key_in_a_recreated_project_is_a_new_key(service: RunningService) -> None:
    await service.project()
    headers = {"Idempotency-Key": "k"}

    async def build(branch: str) -> str:
        path = f"{API}/projects/web/builds"
        answer = await service.call("POST", path, {"branch": branch}, headers=headers)
        assert answer.status == 201, answer.body
        id_: str = answer.json["id"]
        return id_

    first = await build("main")
    assert await build("main") == first
    await service.finished(first)
    await anew(service)
    second = await build("main")
    assert second != first
    await service.finished(second)
    await anew(service)
    assert await build("another") not in (first, second), "nor is its body another one"


async def test_nothing_is_refused_because_of_remembered_settings(service: RunningService) -> None:
    await service.project()
    await service.build()
    path = f"{API}/projects/web/deploys"
    assert (await service.call("POST", path, {"server": "production"})).status == 422
    await put(service, servers={"production": {"jobs": [job("deploy")]}})
    assert (await service.call("POST", path, {"server": "production"})).status == 201
    await put(service, jobs=[])
    assert (await service.call("POST", path, {"server": "production"})).status == 422
    path = f"{API}/projects/web/builds"
    assert (await service.call("POST", path, {"branch": "main"})).status == 422, (
        "it has no jobs now"
    )


async def test_the_plan_is_the_clusters_not_the_nodes_own(service: RunningService) -> None:
    await service.project(jobs=jobs(2))
    await service.finished((await service.build())["id"])
    path = f"{API}/projects/web/builds"
    await plan(service, 1)
    refused = await service.call("POST", path, {"branch": "main"})
    assert (refused.status, refused.error["field"]) == (422, "jobs")
    assert "the plan has 1" in refused.error["message"]
    await plan(service, 2)
    accepted = await service.call("POST", path, {"branch": "main"})
    assert accepted.status == 201
    assert (await service.finished(accepted.json["id"]))["result"] == "passed"


async def test_the_cache_has_a_limit_in_bytes(service: RunningService) -> None:
    known = KnownProjects(service.node.store, at_most=100_000)
    for number in range(20):
        name = f"p{number}"
        await put(service, name, jobs=[job("test", "x" * 5_000)])
        assert (await known.get(name)).project.name == name
    assert 1 <= len(known._kept) <= 3
    assert known._bytes == sum(one.size for one in known._kept.values()) <= 100_000
    await put(service, "huge", jobs=[job("test", "x" * 50_000)])
    assert (await known.get("huge")).project.name == "huge", "it is given, and not kept"
    assert known._bytes == 0


async def test_the_oldest_entry_is_forgotten_first(service: RunningService) -> None:
    names = ("a", "b", "c")
    for name in names:
        await put(service, name)
    one = (await KnownProjects(service.node.store).get("a")).size
    known = KnownProjects(service.node.store, at_most=2 * one + one // 2)
    for name in ("a", "b", "a", "c"):
        await known.get(name)
    assert [name for _, name in known._kept] == ["a", "c"]
