"""Idempotency-Key: the first answer again, whatever has happened since."""

import asyncio
import contextlib
from pathlib import Path

import attrs
import pytest

from boxsched.model import WorkloadId
from boxsched.protocol.inbox import Stop
from boxsched.protocol.shards import SHARD
from boxsched.store.records import IdempotencyKey, KeyTaken, Submitted
from tests.service.house import API, PUBLIC_KEY, House, job, refused, stop


async def test_the_same_key_and_body_give_the_first_answer(house: House) -> None:
    await house.project("web", servers={"s": {"jobs": [job()]}})
    build = await house.build()
    for path, body in (
        ("/projects/web/builds", {"branch": "main", "message": "é"}),
        ("/projects/web/deploys", {"server": "s"}),
        ("/projects/web/ssh-sessions", {"branch": "main", "public_key": PUBLIC_KEY}),
        (f"/workloads/{build['id']}/rebuild", {}),
    ):
        key = {"Idempotency-Key": "k1"}
        first = await house.call("POST", API + path, body, headers=key)
        assert first.status == 201
        await house.finished(first.json["id"])
        again = await house.call("POST", API + path, body, headers=key)
        assert (again.status, again.body) == (201, first.body)
        assert again.headers["Location"] == first.headers["Location"]
        other = {**body, "priority": 1} if "rebuild" not in path else None
        taken = await house.call("POST", API + path, other, headers=key)
        assert (taken.status, taken.error["code"]) == (409, "conflict")


async def test_a_key_outlives_the_node(tmp_path) -> None:
    path, body, key = f"{API}/projects/web/builds", {"branch": "x"}, {"Idempotency-Key": "k"}
    async with House.open(tmp_path / "data") as house:
        await house.project("web")
        first = await house.call("POST", path, body, headers=key)
        await house.finished(first.json["id"])
    async with House.open(tmp_path / "data") as house:
        again = await house.call("POST", path, body, headers=key)
        assert (again.status, again.body) == (201, first.body)
        taken = await house.call("POST", path, {"branch": "y"}, headers=key)
        assert taken.status == 409
        assert len((await house.get("/workloads"))["workloads"]) == 1


async def test_a_key_outlives_the_node_and_the_settings(tmp_path: Path) -> None:
    """What would be refused today was answered 201 once, and durable."""
    key, firsts = {"Idempotency-Key": "k"}, {}
    async with House.open(tmp_path / "data") as house:
        await house.project("web", servers={"s": {"jobs": [job()]}})
        build = await house.build()
        await house.finished(build["id"])
        asked = {
            "/projects/web/builds": {"branch": "x"},
            "/projects/web/deploys": {"server": "s", "build": build["id"]},
            "/projects/web/ssh-sessions": {"branch": "x", "public_key": PUBLIC_KEY},
            f"/workloads/{build['id']}/rebuild": {},
        }
        for path, body in asked.items():
            firsts[path] = await house.call("POST", API + path, body, headers=key)
            assert firsts[path].status == 201
            await house.finished(firsts[path].json["id"])
    for change in ("settings", "project"):
        async with House.open(tmp_path / "data") as house:
            if change == "settings":
                await house.project("web", jobs=[], servers={})
            else:
                assert (await house.call("DELETE", f"{API}/projects/web")).status == 204
            for path, body in asked.items():
                # Another body is 409 first: whether it would make sense is not asked.
                for other in ({**body, "surprise": 1}, None if body else {"x": 1}):
                    taken = await house.call("POST", API + path, other, headers=key)
                    assert (taken.status, taken.error["code"]) == (409, "conflict"), path
                again = await house.call("POST", API + path, body, headers=key)
                assert (again.status, again.body) == (201, firsts[path].body), path
                assert again.headers["Location"] == firsts[path].headers["Location"]
                if change == "project" or path.endswith(("builds", "deploys")):
                    new = {"Idempotency-Key": "new"}
                    answer = await house.call("POST", API + path, body, headers=new)
                    assert answer.status in (404, 409, 422), path


async def test_without_a_key_the_store_is_not_asked_for_one(
    waiting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def idempotency(key: object) -> None:
        asked.append(key)

    monkeypatch.setattr(waiting.node.store, "idempotency", idempotency)
    await waiting.project("web")
    await waiting.build()
    assert await refused(waiting, "/projects/web/builds", {}) == (422, "branch")
    assert asked == []


async def test_the_first_answer_comes_again_whatever_has_changed_since(waiting: House) -> None:
    path, body, key = f"{API}/projects/web/builds", {"branch": "x"}, {"Idempotency-Key": "k"}
    await waiting.project("web")
    first = await waiting.call("POST", path, body, headers=key)
    await waiting.project("web", jobs=[])
    again = await waiting.call("POST", path, body, headers=key)
    assert (again.status, again.body) == (201, first.body)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_recreated_project_does_not_answer_with_the_old_ones_workload(
    tmp_path: Path, restart: bool
) -> None:
    """The key belongs to the project, not to its name."""
    path, body, key = f"{API}/projects/web/builds", {"branch": "x"}, {"Idempotency-Key": "k"}
    async with contextlib.AsyncExitStack() as open_:
        house = await open_.enter_async_context(House.open(tmp_path / "data"))
        await house.project("web")
        first = await house.call("POST", path, body, headers=key)
        await house.finished(first.json["id"])
        assert (await house.call("DELETE", f"{API}/projects/web")).status == 204
        gone = await house.call("POST", path, body, headers=key)
        assert (gone.status, gone.body) == (201, first.body)
        await house.project("web", jobs=[])
        if restart:
            await open_.aclose()
            house = await open_.enter_async_context(House.open(tmp_path / "data"))
        refused = await house.call("POST", path, body, headers=key)
        assert (refused.status, refused.error["field"]) == (422, "jobs")
        await house.project("web")
        second = await house.call("POST", path, body, headers=key)
        assert second.status == 201 and second.json["id"] != first.json["id"]
        again = await house.call("POST", path, body, headers=key)
        assert (again.status, again.body) == (201, second.body)
        assert (await house.call("POST", path, {"branch": "y"}, headers=key)).status == 409


async def test_one_key_many_at_once_one_build(waiting: House) -> None:
    await waiting.project("web")
    path, key = f"{API}/projects/web/builds", {"Idempotency-Key": "k"}
    answers = await asyncio.gather(
        *(waiting.call("POST", path, {"branch": "x"}, headers=key) for _ in range(20))
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert len((await waiting.get("/workloads"))["workloads"]) == 1


async def test_a_key_is_one_paths(waiting: House) -> None:
    await waiting.project("web")
    await waiting.project("api")
    key = {"Idempotency-Key": "k"}
    ids = set()
    for project in ("web", "api"):
        path = f"{API}/projects/{project}/builds"
        ids.add((await waiting.call("POST", path, {"branch": "x"}, headers=key)).json["id"])
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_invalid_keys(waiting: House, key: str) -> None:
    await waiting.project("web")
    answer = await waiting.call(
        "POST", f"{API}/projects/web/builds", {"branch": "x"}, headers={"Idempotency-Key": key}
    )
    assert (answer.status, answer.error["field"]) == (422, "Idempotency-Key")


# --- Stops --------------------------------------------------------------------------------------


async def test_a_stop_can_be_repeated_under_its_key(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build()
    key = {"Idempotency-Key": "k"}
    first = await stop(waiting, made["id"], **key)
    await waiting.finished(made["id"])
    again = await stop(waiting, made["id"], **key)
    assert (again.status, again.body) == (202, first.body)
    assert (await stop(waiting, made["id"], **{"Idempotency-Key": "other"})).status == 409


async def test_a_stops_key_outlives_the_node(tmp_path: Path) -> None:
    async with House.open(tmp_path / "data", boxes=0) as house:
        await house.project("web")
        made = await house.build()
        first = await stop(house, made["id"], **{"Idempotency-Key": "k"})
        assert first.status == 202
        await house.finished(made["id"])
    async with House.open(tmp_path / "data", boxes=0) as house:
        path, key = f"{API}/workloads/{made['id']}/stop", {"Idempotency-Key": "k"}
        for other in ({}, {"now": True}):
            taken = await house.call("POST", path, other, headers=key)
            assert (taken.status, taken.error["code"]) == (409, "conflict")
        again = await stop(house, made["id"], **key)
        assert (again.status, again.json["result"]) == (202, "canceled")
        assert again.json["id"] == made["id"]
        assert (await stop(house, made["id"], **{"Idempotency-Key": "other"})).status == 409
        assert (await stop(house, made["id"])).status == 409


async def test_a_stop_is_asked_once_under_a_key(
    waiting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = waiting.node.store
    await waiting.project("web")
    made = await waiting.build()
    id_ = WorkloadId(int(made["id"][1:]))
    asked = Stop(id_, "somebody")
    key = IdempotencyKey("somebody here", "k", "a" * 64)
    assert await store.ask_once(asked, id_, 1, key) == Submitted(id_, 1, repeated=False)
    waiting.node.wake(SHARD)
    assert (await waiting.finished(made["id"]))["result"] == "canceled"
    assert await store.ask_once(asked, id_, 1, key) == Submitted(id_, 1, repeated=True)
    assert (
        await store.ask_once(asked, id_, 1, attrs.evolve(key, body_sha256="b" * 64)) == KeyTaken()
    )
    assert await store.inbox(SHARD, 10) == []  # the repetitions put none there


async def test_many_stops_at_once_under_one_key(waiting: House) -> None:
    await waiting.project("web")
    made = await waiting.build()
    key = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(stop(waiting, made["id"], **key) for _ in range(10)))
    assert {answer.status for answer in answers} == {202}
