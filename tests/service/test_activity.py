"""What the page shows: phases in order, counts, reasons, and a cursor to go on from."""

import asyncio
import time
from pathlib import Path

import attrs

from boxsched.protocol.shards import SHARD
from boxsched.store.records import Submitted
from tests.service.house import API, House, job, jobs

ROW = {
    "id", "project", "number", "kind", "branch", "tag", "server", "commit", "message", "author",
    "state", "result", "priority", "created_at", "queued_at", "started_at", "finished_at", "boxes",
}  # fmt: skip


async def test_phases_in_their_order(running: House) -> None:
    await running.project("web", jobs=[job("long", "sleep 60")], servers={"s": {"jobs": jobs(2)}})
    runs = await running.build(branch="a")
    await running.until(runs["id"], state="running")
    lane = [await running.build(branch="a") for _ in range(3)]
    wide = await running.build(branch="b", jobs=jobs(2))
    first = await running.deploy("s")  # a priority of 80: before the build
    await running.until(wide["id"], state="queued")
    await running.until(first["id"], state="queued")
    shown = await running.get("/activity")
    assert shown["boxes"] == {"total": 2, "busy": 1}
    assert [one["id"] for one in shown["upcoming"]] == [one["id"] for one in lane]
    assert [one["id"] for one in shown["blocked"]] == [first["id"], wide["id"]]
    assert [one["id"] for one in shown["running"]] == [runs["id"]]
    for one in shown["upcoming"] + shown["blocked"]:
        assert one.keys() >= ROW
        assert "jobs" not in one
        assert one["why"].endswith(".")
    assert shown["blocked"][1]["boxes"] == 2
    assert (await running.call("POST", f"{API}/workloads/{runs['id']}/stop")).status == 202


async def test_the_order_goes_by_ageing(tmp_path) -> None:
    async with House.open(tmp_path / "data", boxes=0, priority_aging=0.001) as house:
        await house.project("web")
        low = await house.build(branch="a", priority=0)
        high = await house.build(branch="b", priority=100)  # worth 0.1 s
        late = await house.build(branch="c", priority=1)
        await house.until(late["id"], state="queued")
        shown = await house.get("/activity")
        assert [one["id"] for one in shown["blocked"]] == [high["id"], low["id"], late["id"]]


async def test_the_last_finished_latest_first(house: House) -> None:
    await house.project("web")
    made = [await house.build(branch=f"b{n}") for n in range(35)]
    for one in made:
        await house.finished(one["id"])
    shown = await house.get("/activity")
    assert len(shown["finished"]) == 30
    times = [one["finished_at"] for one in shown["finished"]]
    assert times == sorted(times, reverse=True)


async def test_the_cursor_continues_where_the_answer_ends(waiting: House) -> None:
    await waiting.project("web")
    one = await waiting.build(branch="a")
    await waiting.until(one["id"], state="queued")
    shown = await waiting.get("/activity")
    two = await waiting.build(branch="b")
    headers = {"Authorization": f"Bearer {waiting.token}", "Last-Event-ID": shown["cursor"]}
    async with waiting.client.get(waiting.url + API + "/events", headers=headers) as response:
        async for line in response.content:
            if line.startswith(b"data:"):
                assert two["id"].encode() in line
                break


async def test_a_client_with_the_current_version_gets_304(waiting: House) -> None:
    await waiting.project("web")
    await waiting.until((await waiting.build())["id"], state="queued")
    first = await waiting.call("GET", f"{API}/activity")
    again = await waiting.call(
        "GET", f"{API}/activity", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status, again.body) == (304, b"")
    await waiting.build(branch="x")
    changed = await waiting.call(
        "GET", f"{API}/activity", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert changed.status == 200


async def test_an_answer_contains_the_callers_own_changes(waiting: House) -> None:
    await waiting.project("web")
    others = [asyncio.create_task(waiting.get("/activity")) for _ in range(10)]
    for n in range(20):
        made = await waiting.build(branch=f"b{n}")
        shown = await waiting.get("/activity")
        seen = {one["id"] for one in shown["upcoming"] + shown["blocked"]}
        assert made["id"] in seen
    await asyncio.gather(*others)


async def test_ten_thousand_rows_block_other_requests_only_briefly(waiting: House) -> None:
    """And many who ask at once cost little more than one."""
    await waiting.project("web")
    await fill(waiting, 10_000)
    first = await waiting.get("/activity")
    assert len(first["upcoming"]) + len(first["blocked"]) == 10_000
    began = time.monotonic()
    answers = await asyncio.gather(*(waiting.call("GET", f"{API}/activity") for _ in range(5)))
    assert {answer.status for answer in answers} == {200}
    assert len({answer.headers["ETag"] for answer in answers}) <= 2
    assert time.monotonic() - began < 30


async def test_the_order_is_the_clusters_not_the_nodes_own(tmp_path: Path) -> None:
    """Another node was started with another ``--priority-aging`` since."""
    async with House.open(tmp_path / "data", boxes=0, priority_aging=1e6) as house:
        await house.project()
        older = await house.build(branch="a", priority=10)
        newer = await house.build(branch="b", priority=90)
        store = house.node.store
        await store.set_organization(attrs.evolve(await store.organization(), priority_aging=1e-6))
        last = await house.build(branch="c", priority=0)
        await house.until(last["id"], state="queued")
        activity = await house.get("/activity")
        ids = [one["id"] for one in activity["blocked"]]
        assert ids[:2] == [older["id"], newer["id"]]


async def fill(house: House, count: int) -> None:
    """Many builds, put into the store in large groups."""
    from boxsched.api.messages.requests import AskBuild
    from boxsched.api.submitting import new_workloads
    from boxsched.api.submitting.branch_patterns import BranchGlobs
    from boxsched.api.submitting.known_projects import Known, settings_of

    project = await house.node.store.project("web")
    assert project is not None
    settings = settings_of(project)
    known = Known.of(project, None, settings, BranchGlobs.of(settings))
    now = house.node.clock.now()
    for start in range(0, count, 500):
        group = [
            new_workloads.build(known, AskBuild(branch=f"b{n % 1000}"), now)
            for n in range(start, min(start + 500, count))
        ]
        outcomes = await house.node.store.submit(group)
        assert all(isinstance(one, Submitted) for one in outcomes)
    house.node.wake(SHARD)
    last = f"w{outcomes[-1].id}"  # type: ignore[union-attr]
    while await house.node.why(outcomes[-1].id) is None:  # type: ignore[union-attr]
        await house.until_event(lambda event: event.type.startswith("workload."))
    assert (await house.look(last))["state"] in ("registered", "queued")
