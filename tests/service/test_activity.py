"""What the page shows: phases in order, counts, reasons, and a cursor to continue from."""

import asyncio
import time
from pathlib import Path

import attrs

from boxsched.protocol.shards import SHARD
from boxsched.store.records import Submitted
from tests.organizations import organization
from tests.service.running_service import API, RunningService, job, jobs

ROW = {
    "id", "project", "number", "kind", "branch", "tag", "server", "commit", "message", "author",
    "state", "result", "priority", "created_at", "queued_at", "started_at", "finished_at", "boxes",
}  # fmt: skip


async def test_phases_are_listed_in_their_order(executing_service: RunningService) -> None:
    await executing_service.project(
        "web", jobs=[job("long", "sleep 60")], servers={"s": {"jobs": jobs(2)}}
    )
    runs = await executing_service.build(branch="a")
    await executing_service.until(runs["id"], state="running")
    lane = [await executing_service.build(branch="a") for _ in range(3)]
    wide = await executing_service.build(branch="b", jobs=jobs(2))
    first = await executing_service.deploy("s")  # a priority of 80: before the build
    await executing_service.until(wide["id"], state="queued")
    await executing_service.until(first["id"], state="queued")
    shown = await executing_service.get("/activity")
    assert shown["boxes"] == {"total": 2, "busy": 1}
    assert [one["id"] for one in shown["upcoming"]] == [one["id"] for one in lane]
    assert [one["id"] for one in shown["blocked"]] == [first["id"], wide["id"]]
    assert [one["id"] for one in shown["running"]] == [runs["id"]]
    for one in shown["upcoming"] + shown["blocked"]:
        assert one.keys() >= ROW
        assert "jobs" not in one
        assert one["why"].endswith(".")
    assert shown["blocked"][1]["boxes"] == 2
    assert (
        await executing_service.call("POST", f"{API}/workloads/{runs['id']}/stop")
    ).status == 202


async def test_waiting_workloads_are_ordered_by_aged_priority(tmp_path) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0, priority_aging=0.001) as service:
        await service.project("web")
        low = await service.build(branch="a", priority=0)
        high = await service.build(branch="b", priority=100)  # worth 0.1 s
        late = await service.build(branch="c", priority=1)
        await service.until(late["id"], state="queued")
        shown = await service.get("/activity")
        assert [one["id"] for one in shown["blocked"]] == [high["id"], low["id"], late["id"]]


async def test_finished_workloads_are_listed_latest_first(service: RunningService) -> None:
    await service.project("web")
    made = [await service.build(branch=f"b{n}") for n in range(35)]
    for one in made:
        await service.finished(one["id"])
    shown = await service.get("/activity")
    assert len(shown["finished"]) == 30
    times = [one["finished_at"] for one in shown["finished"]]
    assert times == sorted(times, reverse=True)


async def test_the_cursor_continues_where_the_answer_ends(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    one = await boxless_service.build(branch="a")
    await boxless_service.until(one["id"], state="queued")
    shown = await boxless_service.get("/activity")
    two = await boxless_service.build(branch="b")
    headers = {"Authorization": f"Bearer {boxless_service.token}", "Last-Event-ID": shown["cursor"]}
    async with boxless_service.client.get(
        boxless_service.url + API + "/events", headers=headers
    ) as response:
        async for line in response.content:
            if line.startswith(b"data:"):
                assert two["id"].encode() in line
                break


async def test_a_client_with_the_current_version_gets_304(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    await boxless_service.until((await boxless_service.build())["id"], state="queued")
    first = await boxless_service.call("GET", f"{API}/activity")
    again = await boxless_service.call(
        "GET", f"{API}/activity", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status, again.body) == (304, b"")
    await boxless_service.build(branch="x")
    changed = await boxless_service.call(
        "GET", f"{API}/activity", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert changed.status == 200


async def test_an_answer_contains_the_callers_own_changes(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    others = [asyncio.create_task(boxless_service.get("/activity")) for _ in range(10)]
    for n in range(20):
        made = await boxless_service.build(branch=f"b{n}")
        shown = await boxless_service.get("/activity")
        seen = {one["id"] for one in shown["upcoming"] + shown["blocked"]}
        assert made["id"] in seen
    await asyncio.gather(*others)


async def test_ten_thousand_rows_block_other_requests_only_briefly(
    boxless_service: RunningService,
) -> None:
    """Many concurrent requests cost little more than one."""
    await boxless_service.project("web")
    await fill(boxless_service, 10_000)
    first = await boxless_service.get("/activity")
    assert len(first["upcoming"]) + len(first["blocked"]) == 10_000
    began = time.process_time()
    await boxless_service.get("/activity")
    one, began = time.process_time() - began, time.process_time()
    answers = await asyncio.gather(
        *(boxless_service.call("GET", f"{API}/activity") for _ in range(5))
    )
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["ETag"] for answer in answers}) <= 2
    assert time.process_time() - began < 4 * one


async def test_the_order_follows_the_clusters_settings_not_the_nodes_own(tmp_path: Path) -> None:
    """Another node was started later with another ``--priority-aging``."""
    async with RunningService.open(tmp_path / "data", boxes=0, priority_aging=1e6) as service:
        await service.project()
        older = await service.build(branch="a", priority=10)
        newer = await service.build(branch="b", priority=90)
        store = service.node.store
        await store.set_organization(attrs.evolve(await store.organization(), priority_aging=1e-6))
        last = await service.build(branch="c", priority=0)
        await service.until(last["id"], state="queued")
        activity = await service.get("/activity")
        ids = [one["id"] for one in activity["blocked"]]
        assert ids[:2] == [older["id"], newer["id"]]


async def fill(service: RunningService, count: int) -> None:
    """Store many builds in large groups."""
    from boxsched.api.messages.requests import AskBuild
    from boxsched.api.submitting import new_workloads
    from boxsched.api.submitting.branch_patterns import BranchGlobs
    from boxsched.api.submitting.known_projects import Known, settings_of

    project = await service.node.store.project("web")
    assert project is not None
    settings = settings_of(project)
    known = Known.of(project, organization(), settings, BranchGlobs.of(settings))
    now = service.node.clock.now()
    for start in range(0, count, 500):
        group = [
            new_workloads.build(known, AskBuild(branch=f"b{n % 1000}"), now)
            for n in range(start, min(start + 500, count))
        ]
        outcomes = await service.node.store.submit(group)
        assert all(isinstance(one, Submitted) for one in outcomes)
    service.node.wake(SHARD)
    last = f"w{outcomes[-1].id}"  # type: ignore[union-attr]
    while await service.node.why(outcomes[-1].id) is None:  # type: ignore[union-attr]
        await service.until_event(lambda event: event.type.startswith("workload."))
    assert (await service.look(last))["state"] in ("registered", "queued")
