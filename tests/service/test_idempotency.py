"""Idempotency-Key: a repeated request gets the first answer, whatever has happened since."""

import asyncio
import contextlib
from pathlib import Path

import attrs
import pytest

from boxsched.model import WorkloadId
from boxsched.protocol.inbox import Stop
from boxsched.protocol.shards import SHARD
from boxsched.store.records import IdempotencyKey, KeyTaken, Submitted
from tests.service.running_service import API, PUBLIC_KEY, RunningService, job, refused, stop


async def test_the_same_key_and_body_give_the_first_answer(service: RunningService) -> None:
    await service.project("web", servers={"s": {"jobs": [job()]}})
    build = await service.build()
    for path, body in (
        ("/projects/web/builds", {"branch": "main", "message": "é"}),
        ("/projects/web/deploys", {"server": "s"}),
        ("/projects/web/ssh-sessions", {"branch": "main", "public_key": PUBLIC_KEY}),
        (f"/workloads/{build['id']}/rebuild", {}),
    ):
        key = {"Idempotency-Key": "k1"}
        first = await service.call("POST", API + path, body, headers=key)
        assert first.status == 201
        await service.finished(first.json["id"])
        again = await service.call("POST", API + path, body, headers=key)
        assert (again.status, again.body) == (201, first.body)
        assert again.headers["Location"] == first.headers["Location"]
        other = {**body, "priority": 1} if "rebuild" not in path else None
        taken = await service.call("POST", API + path, other, headers=key)
        assert (taken.status, taken.error["code"]) == (409, "conflict")


async def test_a_key_survives_a_restart_of_the_node(tmp_path) -> None:
    path, body, key = f"{API}/projects/web/builds", {"branch": "x"}, {"Idempotency-Key": "k"}
    async with RunningService.open(tmp_path / "data") as service:
        await service.project("web")
        first = await service.call("POST", path, body, headers=key)
        await service.finished(first.json["id"])
    async with RunningService.open(tmp_path / "data") as service:
        again = await service.call("POST", path, body, headers=key)
        assert (again.status, again.body) == (201, first.body)
        taken = await service.call("POST", path, {"branch": "y"}, headers=key)
        assert taken.status == 409
        assert len((await service.get("/workloads"))["workloads"]) == 1


async def test_a_key_survives_a_restart_with_other_settings(tmp_path: Path) -> None:
    """A request that would be refused now was answered with 201 earlier, durably."""
    key, firsts = {"Idempotency-Key": "k"}, {}
    async with RunningService.open(tmp_path / "data") as service:
        await service.project("web", servers={"s": {"jobs": [job()]}})
        build = await service.build()
        await service.finished(build["id"])
        asked = {
            "/projects/web/builds": {"branch": "x"},
            "/projects/web/deploys": {"server": "s", "build": build["id"]},
            "/projects/web/ssh-sessions": {"branch": "x", "public_key": PUBLIC_KEY},
            f"/workloads/{build['id']}/rebuild": {},
        }
        for path, body in asked.items():
            firsts[path] = await service.call("POST", API + path, body, headers=key)
            assert firsts[path].status == 201
            await service.finished(firsts[path].json["id"])
    for change in ("settings", "project"):
        async with RunningService.open(tmp_path / "data") as service:
            if change == "settings":
                await service.project("web", jobs=[], servers={})
            else:
                assert (await service.call("DELETE", f"{API}/projects/web")).status == 204
            for path, body in asked.items():
                # Another body gets 409 first, whether or not it is valid.
                for other in ({**body, "surprise": 1}, None if body else {"x": 1}):
                    taken = await service.call("POST", API + path, other, headers=key)
                    assert (taken.status, taken.error["code"]) == (409, "conflict"), path
                again = await service.call("POST", API + path, body, headers=key)
                assert (again.status, again.body) == (201, firsts[path].body), path
                assert again.headers["Location"] == firsts[path].headers["Location"]
                if change == "project" or path.endswith(("builds", "deploys")):
                    new = {"Idempotency-Key": "new"}
                    answer = await service.call("POST", API + path, body, headers=new)
                    assert answer.status in (404, 409, 422), path


async def test_requests_without_a_key_do_not_query_the_keys(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    async def idempotency(key: object) -> None:
        asked.append(key)

    monkeypatch.setattr(boxless_service.node.store, "idempotency", idempotency)
    await boxless_service.project("web")
    await boxless_service.build()
    assert await refused(boxless_service, "/projects/web/builds", {}) == (422, "branch")
    assert asked == []


async def test_the_first_answer_is_repeated_whatever_has_changed_since(
    boxless_service: RunningService,
) -> None:
    path, body, key = f"{API}/projects/web/builds", {"branch": "x"}, {"Idempotency-Key": "k"}
    await boxless_service.project("web")
    first = await boxless_service.call("POST", path, body, headers=key)
    await boxless_service.project("web", jobs=[])
    again = await boxless_service.call("POST", path, body, headers=key)
    assert (again.status, again.body) == (201, first.body)


@pytest.mark.parametrize("restart", [False, True])
async def test_a_recreated_project_does_not_return_workloads_of_the_old_one(
    tmp_path: Path, restart: bool
) -> None:
    """The key belongs to the project's id, not to its name."""
    path, body, key = f"{API}/projects/web/builds", {"branch": "x"}, {"Idempotency-Key": "k"}
    async with contextlib.AsyncExitStack() as open_:
        service = await open_.enter_async_context(RunningService.open(tmp_path / "data"))
        await service.project("web")
        first = await service.call("POST", path, body, headers=key)
        await service.finished(first.json["id"])
        assert (await service.call("DELETE", f"{API}/projects/web")).status == 204
        gone = await service.call("POST", path, body, headers=key)
        assert (gone.status, gone.body) == (201, first.body)
        await service.project("web", jobs=[])
        if restart:
            await open_.aclose()
            service = await open_.enter_async_context(RunningService.open(tmp_path / "data"))
        refused = await service.call("POST", path, body, headers=key)
        assert (refused.status, refused.error["field"]) == (422, "jobs")
        await service.project("web")
        second = await service.call("POST", path, body, headers=key)
        assert second.status == 201 and second.json["id"] != first.json["id"]
        again = await service.call("POST", path, body, headers=key)
        assert (again.status, again.body) == (201, second.body)
        assert (await service.call("POST", path, {"branch": "y"}, headers=key)).status == 409


async def test_many_requests_with_one_key_at_once_create_one_build(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project("web")
    path, key = f"{API}/projects/web/builds", {"Idempotency-Key": "k"}
    answers = await asyncio.gather(
        *(boxless_service.call("POST", path, {"branch": "x"}, headers=key) for _ in range(20))
    )
    assert {answer.status for answer in answers} == {201}
    assert len({answer.body for answer in answers}) == 1
    assert len((await boxless_service.get("/workloads"))["workloads"]) == 1


async def test_a_key_belongs_to_one_path(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    await boxless_service.project("api")
    key = {"Idempotency-Key": "k"}
    ids = set()
    for project in ("web", "api"):
        path = f"{API}/projects/{project}/builds"
        ids.add((await boxless_service.call("POST", path, {"branch": "x"}, headers=key)).json["id"])
    assert len(ids) == 2


@pytest.mark.parametrize("key", ["", "k" * 256])
async def test_invalid_keys_are_refused(boxless_service: RunningService, key: str) -> None:
    await boxless_service.project("web")
    answer = await boxless_service.call(
        "POST", f"{API}/projects/web/builds", {"branch": "x"}, headers={"Idempotency-Key": key}
    )
    assert (answer.status, answer.error["field"]) == (422, "Idempotency-Key")


# --- Stops --------------------------------------------------------------------------------------


async def test_a_stop_can_be_repeated_under_its_key(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    key = {"Idempotency-Key": "k"}
    first = await stop(boxless_service, made["id"], **key)
    await boxless_service.finished(made["id"])
    again = await stop(boxless_service, made["id"], **key)
    assert (again.status, again.body) == (202, first.body)
    assert (await stop(boxless_service, made["id"], **{"Idempotency-Key": "other"})).status == 409


async def test_the_key_of_a_stop_survives_a_restart_of_the_node(tmp_path: Path) -> None:
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await service.project("web")
        made = await service.build()
        first = await stop(service, made["id"], **{"Idempotency-Key": "k"})
        assert first.status == 202
        await service.finished(made["id"])
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        path, key = f"{API}/workloads/{made['id']}/stop", {"Idempotency-Key": "k"}
        for other in ({}, {"now": True}):
            taken = await service.call("POST", path, other, headers=key)
            assert (taken.status, taken.error["code"]) == (409, "conflict")
        again = await stop(service, made["id"], **key)
        assert (again.status, again.json["result"]) == (202, "canceled")
        assert again.json["id"] == made["id"]
        assert (await stop(service, made["id"], **{"Idempotency-Key": "other"})).status == 409
        assert (await stop(service, made["id"])).status == 409


async def test_a_stop_is_sent_once_under_a_key(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = boxless_service.node.store
    await boxless_service.project("web")
    made = await boxless_service.build()
    id_ = WorkloadId(int(made["id"][1:]))
    asked = Stop(id_, "somebody")
    key = IdempotencyKey("somebody here", "k", "a" * 64)
    assert await store.ask_once(asked, id_, 1, key) == Submitted(id_, 1, repeated=False)
    boxless_service.node.wake(SHARD)
    assert (await boxless_service.finished(made["id"]))["result"] == "canceled"
    assert await store.ask_once(asked, id_, 1, key) == Submitted(id_, 1, repeated=True)
    assert (
        await store.ask_once(asked, id_, 1, attrs.evolve(key, body_sha256="b" * 64)) == KeyTaken()
    )
    assert await store.inbox(SHARD, 10) == []  # the repetitions add none


async def test_many_stops_at_once_under_one_key(boxless_service: RunningService) -> None:
    await boxless_service.project("web")
    made = await boxless_service.build()
    key = {"Idempotency-Key": "k"}
    answers = await asyncio.gather(*(stop(boxless_service, made["id"], **key) for _ in range(10)))
    assert {answer.status for answer in answers} == {202}
