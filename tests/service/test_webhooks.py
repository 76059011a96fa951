"""Deliveries of code hosts and their effects, on SQLite and on PostgreSQL."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.secrets.ring import KeyRing, new_key
from tests.contract.postgres_server import database, served
from tests.service.code_hosts import (
    COMMIT,
    change,
    deletion,
    listed,
    push,
    secured,
    send,
    sent,
)
from tests.service.running_service import API, RunningService, job


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with served() as server:
        yield server.url("postgres")


@pytest.fixture(params=["sqlite", "postgres"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunningService]:
    """No Boxes, so builds wait; one project with a secret."""
    if request.param == "sqlite":
        async with RunningService.open(tmp_path / "data", boxes=0) as opened:
            await secured(opened)
            yield opened
        return
    with database(request.getfixturevalue("postgres")) as url:
        async with RunningService.open(tmp_path / "data", boxes=0, database=url) as opened:
            await _with_key(opened)
            yield opened


async def _with_key(service: RunningService) -> None:
    object.__setattr__(service.node.vault, "ring", KeyRing.of(new_key(), "a test"))
    await secured(service)


async def built(service: RunningService, answer: Any) -> Any:
    """Return the one build that a delivery created."""
    assert answer["result"] == "created", answer
    (id_,) = answer["workloads"]
    return await service.look(id_)


# --- Effects ------------------------------------------------------------------------------------


async def test_a_push_is_built_with_all_data_of_the_host(service: RunningService) -> None:
    build = await built(service, await sent(service, push("topic/a")))
    assert (build["branch"], build["tag"], build["commit"]) == ("topic/a", None, COMMIT)
    assert (build["message"], build["author"]) == ("Mend it", "Ada")
    assert build["submitted_by"] == "webhook"
    assert build["compare_url"] == "https://github.com/shop/web/compare/a...b"
    assert build["event_at"] == "2026-05-01T10:00:00.000000Z"
    assert (build["from_fork"], build["target_branch"]) == (False, None)


async def test_a_pushed_tag_is_built(service: RunningService) -> None:
    body = push(ref="refs/tags/v1", base_ref="refs/heads/main")
    build = await built(service, await sent(service, body))
    assert (build["branch"], build["tag"], build["commit"]) == (None, "v1", COMMIT)


async def test_a_change_request_is_built_on_its_own_branch(service: RunningService) -> None:
    build = await built(service, await sent(service, change(), "pull_request"))
    assert (build["branch"], build["commit"]) == ("pull-request-7", COMMIT)
    assert (build["target_branch"], build["from_fork"]) == ("stable", False)
    assert build["message"] == "A better shop"


@pytest.mark.parametrize(
    ("setting", "own", "fork"),
    [("none", False, False), ("own", True, False), ("forks", True, True)],
)
async def test_a_setting_decides_which_change_requests_are_built(
    service: RunningService, setting: str, own: bool, fork: bool
) -> None:
    await service.project(pull_requests=setting)
    for wanted, body in ((own, change()), (fork, change(fork=True))):
        answer = await sent(service, body, "pull_request")
        assert answer["result"] == ("created" if wanted else "ignored")
        assert ("reason" in answer) is not wanted
        if wanted:
            build = await built(service, answer)
            assert build["from_fork"] is (body["pull_request"]["head"]["repo"]["id"] == 2)


async def test_a_closed_change_request_ends_only_its_own_builds(service: RunningService) -> None:
    first = await sent(service, change(), "pull_request")
    second = await sent(service, change("synchronize"), "pull_request")
    other = await sent(service, change(number=8), "pull_request")
    done = await sent(service, change("closed"), "pull_request")
    assert done == {"result": "canceled", "workloads": first["workloads"] + second["workloads"]}
    for id_ in done["workloads"]:
        ended = await service.until(id_, state="finished")
        assert ended["result"] == "canceled"
        assert ended["reason"] == "canceled by the end of its change request"
    assert (await service.look(other["workloads"][0]))["state"] != "finished"


async def test_a_deleted_branch_ends_its_builds(service: RunningService) -> None:
    first = await sent(service, push("topic"))
    done = await sent(service, deletion("topic"))
    assert done == {"result": "canceled", "workloads": first["workloads"]}
    ended = await service.until(first["workloads"][0], state="finished")
    assert ended["reason"] == "canceled by the deletion of its branch"


async def test_a_deleted_branch_without_builds_is_not_a_mistake(service: RunningService) -> None:
    assert await sent(service, deletion("topic")) == {"result": "canceled", "workloads": []}


async def test_cancellation_strategies_apply(service: RunningService) -> None:
    await service.project(cancellation=[["*", "queued"]])
    first = await sent(service, push())
    second = await sent(service, push())
    assert (await service.until(first["workloads"][0], state="finished"))["result"] == "canceled"
    assert (await service.look(second["workloads"][0]))["state"] != "finished"


async def test_only_branches_of_build_branches_are_built(service: RunningService) -> None:
    await service.project(build_branches=["main", "release/*"])
    assert (await sent(service, push("release/7")))["result"] == "created"
    answer = await sent(service, push("topic"))
    assert answer["result"] == "ignored"
    assert answer["reason"] == "build_branches does not match topic"
    assert (await sent(service, push(ref="refs/tags/v1")))["result"] == "created"


async def test_an_empty_list_of_build_branches_builds_no_branch(service: RunningService) -> None:
    await service.project(build_branches=[])
    assert (await sent(service, push()))["result"] == "ignored"


async def test_a_payload_of_another_repository_is_ignored(service: RunningService) -> None:
    await service.project(repository="https://github.com/shop/api.git")
    answer = await sent(service, push())
    assert answer == {
        "result": "ignored",
        "workloads": [],
        "reason": "it is from another repository: https://github.com/shop/web.git",
    }
    await service.project(repository="ssh://git@github.com/shop/web")
    assert (await sent(service, push()))["result"] == "created"


async def test_a_project_without_jobs_ignores_with_the_reason(service: RunningService) -> None:
    await service.project(jobs=[])
    answer = await sent(service, push())
    assert answer["result"] == "ignored"
    assert answer["reason"] == "jobs: it has no jobs, and its project has no jobs either"


async def test_more_than_the_project_may_use_is_ignored_with_the_reason(
    service: RunningService,
) -> None:
    await service.project(jobs=[job("a"), job("b")], max_boxes=1)
    answer = await sent(service, push())
    assert answer["reason"] == "jobs: it needs 2 Boxes; its project may use 1"


async def test_a_ping_and_a_skip_tag_are_ignored_with_the_reason(service: RunningService) -> None:
    for event, body in (("ping", {"zen": "x"}), ("push", push(head_commit=skipped()))):
        answer = await sent(service, body, event)
        assert answer["result"] == "ignored"
        assert answer["reason"]


def skipped() -> dict[str, Any]:
    return {"id": COMMIT, "message": "[skip ci] nothing", "author": {"name": "Ada"}}


async def test_the_generic_provider_builds_and_ends(service: RunningService) -> None:
    first = await sent(service, {"branch": "main", "commit": COMMIT}, provider="generic")
    assert (await built(service, first))["commit"] == COMMIT
    tag = await sent(service, {"tag": "v1", "message": "One"}, provider="generic")
    assert (await built(service, tag))["tag"] == "v1"
    done = await sent(service, {"branch": "main", "deleted": True}, provider="generic")
    assert done == {"result": "canceled", "workloads": first["workloads"]}


# --- Repetitions ---------------------------------------------------------------------------------


async def test_the_same_body_is_built_once_whatever_its_id(service: RunningService) -> None:
    body = push()
    first = await sent(service, body)
    for again in (await sent(service, body), await sent(service, body)):
        assert again == {"result": "duplicate", "workloads": first["workloads"]}
    assert len((await service.get("/workloads"))["workloads"]) == 1


async def test_the_same_id_is_built_once_whatever_its_body(service: RunningService) -> None:
    first = await sent(service, push(), delivery="d-1")
    again = await sent(service, push(), delivery="d-1")
    assert again == {"result": "duplicate", "workloads": first["workloads"]}


async def test_a_generic_delivery_has_its_id_in_its_body(service: RunningService) -> None:
    one, other = {"branch": "main", "delivery": "1"}, {"branch": "main", "delivery": "2"}
    first = await sent(service, one, provider="generic")
    again = await sent(service, {**one, "message": "x"}, provider="generic")
    assert again == {"result": "duplicate", "workloads": first["workloads"]}
    assert (await sent(service, other, provider="generic"))["result"] == "created"


async def test_a_repetition_is_known_after_a_restart(tmp_path: Path) -> None:
    body = push()
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        await secured(service)
        first = await sent(service, body)
    async with RunningService.open(tmp_path / "data", boxes=0) as service:
        for _ in range(2):
            assert await sent(service, body) == {
                "result": "duplicate", "workloads": first["workloads"],
            }  # fmt: skip


async def test_another_project_builds_the_same_body(service: RunningService) -> None:
    body = push()
    await secured(service, "api")
    first, other = await sent(service, body), await sent(service, body, project="api")
    assert first["result"] == other["result"] == "created"


async def test_a_recreated_project_has_no_earlier_deliveries(service: RunningService) -> None:
    body = push()
    first = await sent(service, body)
    await sent(service, deletion())
    await service.until(first["workloads"][0], state="finished")
    assert (await service.call("DELETE", f"{API}/projects/web")).status == 204
    assert (await send(service, body)).status == 401
    await secured(service)
    assert (await sent(service, body))["result"] == "created"


async def test_an_ignored_delivery_can_be_sent_again(service: RunningService) -> None:
    body = push("topic")
    await service.project(build_branches=["main"])
    assert (await sent(service, body, delivery="d"))["result"] == "ignored"
    await service.project()
    assert (await sent(service, body, delivery="d"))["result"] == "created"


async def test_many_copies_at_once_make_one_build(service: RunningService) -> None:
    body = push()
    answers = await asyncio.gather(*[sent(service, body) for _ in range(20)])
    assert sorted(one["result"] for one in answers) == ["created"] + ["duplicate"] * 19
    assert len({one["workloads"][0] for one in answers}) == 1
    assert len(await listed(service)) == 20


# --- The list and the metrics ------------------------------------------------------------------


async def test_every_signed_delivery_is_listed(service: RunningService) -> None:
    body = push()
    first = await sent(service, body)
    await sent(service, body)
    await sent(service, {"zen": "x"}, "ping")
    await sent(service, deletion())
    await send(service, push(), secret="another")
    rows = await listed(service)
    assert [(row["event"], row["result"]) for row in rows] == [
        ("push", "canceled"),
        ("ping", "ignored"),
        ("push", "duplicate"),
        ("push", "created"),
    ]
    assert {(row["provider"], row["project"]) for row in rows} == {("github", "web")}
    assert rows[0]["workloads"] == rows[2]["workloads"] == rows[3]["workloads"]
    assert rows[3]["workloads"] == first["workloads"]
    assert rows[1]["reason"]
    assert rows[3]["received_at"].endswith("Z")
    assert "Mend it" not in json.dumps(rows)


async def test_deliveries_are_listed_by_project_and_result_in_pages(
    service: RunningService,
) -> None:
    await secured(service, "api")
    for _ in range(3):
        await sent(service, push(), project="api")
        await sent(service, {"zen": "x"}, "ping")
    assert len(await listed(service, project="api")) == 3
    assert await listed(service, project="api", result="ignored") == []
    assert len(await listed(service, result="ignored")) == 3
    assert await listed(service, project="nobody") == []
    page = await service.get("/deliveries?limit=4")
    for one in page["deliveries"]:
        built = [await service.look(id_) for id_ in one["workloads"]]
        assert one["numbers"] == [build["number"] for build in built]
    rest = await service.get(f"/deliveries?limit=4&cursor={page['next_cursor']}")
    ids = [row["id"] for row in page["deliveries"] + rest["deliveries"]]
    assert len(ids) == 6
    assert rest["next_cursor"] is None
    assert ids == sorted(ids, key=int, reverse=True)


@pytest.mark.parametrize(
    ("query", "field"),
    [("result=nonsense", "result"), ("limit=0", "limit"), ("limit=201", "limit"),
     ("cursor=x", "cursor"), ("project=", "project"), ("state=dead", "state")],
)  # fmt: skip
async def test_an_invalid_query_is_refused(
    boxless_service: RunningService, query: str, field: str
) -> None:
    answer = await boxless_service.call("GET", f"{API}/deliveries?{query}")
    assert (answer.status, answer.error["field"]) == (422, field)


async def test_deliveries_are_counted(service: RunningService) -> None:
    body = push()
    for _ in range(2):
        await sent(service, body)
    await sent(service, {"zen": "x"}, "ping")
    await send(service, body, secret="another")
    await send(service, b"no JSON")
    metrics = (await service.call("GET", "/metrics", token=None)).body.decode()
    for result in ("created", "duplicate", "ignored", "refused", "malformed"):
        line = f'boxsched_deliveries_total{{provider="github",result="{result}"}} 1.0'
        assert line in metrics.splitlines()
