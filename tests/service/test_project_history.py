"""A project's versions over HTTP: who changed what, checks, guards, and reverts."""

import asyncio

import pytest

from tests.service.running_service import API, Answer, RunningService, job


async def named(service: RunningService, name: str) -> str:
    made = await service.call("POST", f"{API}/tokens", {"role": "admin", "name": name})
    return made.json["token"]


async def put(service: RunningService, settings: dict, **how) -> Answer:
    return await service.call("PUT", f"{API}/projects/web", settings, **how)


async def history(service: RunningService, query: str = "") -> list:
    return (await service.get(f"/projects/web/history{query}"))["versions"]


async def check(service: RunningService, settings: dict) -> Answer:
    return await service.call("POST", f"{API}/projects/web/check", settings)


async def revert(service: RunningService, version: int, **how) -> Answer:
    return await service.call("POST", f"{API}/projects/web/revert", {"version": version}, **how)


async def test_each_change_has_author_time_and_content(service: RunningService) -> None:
    await put(service, {"jobs": [job()]}, token=await named(service, "ann"))
    servers = {"prod": {"jobs": [job()]}, "test": {"jobs": [job()]}}
    changed = {"jobs": [job()], "servers": servers, "max_boxes": 3}
    await put(service, changed, token=await named(service, "bob"))
    second, first = await history(service)
    assert (first["version"], first["by"], first["changed"]) == (1, "ann", ["jobs"])
    assert (second["version"], second["by"]) == (2, "bob")
    assert set(second["changed"]) == {"servers.prod", "servers.test", "max_boxes"}
    assert second["at"] > first["at"]
    seen = await service.get("/projects/web/history/1")
    assert seen["settings"]["jobs"][0]["name"] == "test"
    assert seen["settings"]["max_boxes"] is None
    assert (await service.call("GET", f"{API}/projects/web/history/3")).status == 404
    assert (await service.call("GET", f"{API}/projects/nope/history")).status == 404


async def test_settings_without_a_change_are_not_a_new_version(service: RunningService) -> None:
    settings = {"jobs": [job()], "webhook_secret": "canary-1"}
    first = await put(service, settings)
    assert (first.status, first.headers["ETag"]) == (201, '"1.1"')
    again = await put(service, settings)
    assert (again.status, again.headers["ETag"]) == (200, '"1.1"')
    assert again.json == first.json
    assert len(await history(service)) == 1


async def test_a_changed_secret_is_listed_but_never_shown(service: RunningService) -> None:
    hook = {"url": "https://example.org/hook"}
    await put(service, {"hooks": [hook]})
    await put(service, {"hooks": [hook | {"secret": "canary-1"}], "webhook_secret": "canary-2"})
    await put(service, {"hooks": [hook], "webhook_secret": None})
    await put(service, {"hooks": [hook | {"secret": "canary-1"}], "webhook_secret": None})
    assert [one["changed"] for one in await history(service)] == [
        ["webhook_secret"], ["webhook_secret", "hooks[0].secret"], ["hooks"],
    ]  # fmt: skip
    for path in ("history", "history/2"):
        answer = await service.call("GET", f"{API}/projects/web/{path}")
        assert b"canary" not in answer.body and answer.status == 200


async def test_a_check_says_what_would_change_and_changes_nothing(service: RunningService) -> None:
    new = await check(service, {"jobs": [job()], "webhook_secret": "canary"})
    assert b"canary" not in new.body
    assert (new.json["created"], new.json["etag"], new.json["before"]) == (True, None, None)
    assert new.json["changed"] == ["jobs", "webhook_secret"]
    assert (await service.call("GET", f"{API}/projects/web")).status == 404
    await put(service, {"jobs": [job()]})
    changed = await check(service, {"jobs": [job()], "max_boxes": 2})
    assert changed.json["changed"] == ["max_boxes"]
    assert changed.json["etag"] == "1.1"
    assert (changed.json["before"]["max_boxes"], changed.json["after"]["max_boxes"]) == (None, 2)
    assert len(await history(service)) == 1
    same = await check(service, {"jobs": [job()]})
    assert (same.json["created"], same.json["changed"]) == (False, [])


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"jobs": [{"name": "a", "commands": []}]}, "jobs[0].commands"),
        ({"statuses": {"provider": "github"}, "repository": "https://github.com/a/b"},
         "statuses.token"),
        ({"schedules": [{"cron": "never ever", "branch": "main"}]}, "schedules[0].cron"),
    ],
)  # fmt: skip
async def test_a_check_refuses_the_same_as_a_change(
    service: RunningService, settings: dict, field: str
) -> None:
    for answer in (await check(service, settings), await put(service, settings)):
        assert (answer.status, answer.error["field"]) == (422, field)
    bad = await service.call("POST", f"{API}/projects/No/check", {})
    assert (bad.status, bad.error["field"]) == (422, "project")


async def test_a_change_for_one_version_is_refused_for_another(service: RunningService) -> None:
    absent = {"If-None-Match": "*"}
    made = await put(service, {"max_boxes": 1}, headers=absent)
    assert made.status == 201
    tag = {"If-Match": made.headers["ETag"]}
    twice = await put(service, {"max_boxes": 9}, headers=absent)
    assert (twice.status, twice.error["code"]) == (412, "outdated")
    assert (await put(service, {"max_boxes": 2}, headers=tag)).status == 200
    late = await put(service, {"max_boxes": 3}, headers=tag)
    assert (late.status, late.error["field"]) == (412, "If-Match")
    for header in ("If-Match", "If-None-Match"):
        bad = await put(service, {"max_boxes": 4}, headers={header: "nonsense"})
        assert (bad.status, bad.error["field"]) == (422, header)
    assert (await put(service, {"max_boxes": 5}, headers={"If-Match": "*"})).status == 200
    await service.call("DELETE", f"{API}/projects/web")
    gone = await put(service, {"max_boxes": 6}, headers={"If-Match": "*"})
    assert (gone.status, gone.error["code"]) == (412, "outdated")


async def test_concurrent_changes_are_all_made_and_each_reports_what_it_changed(
    service: RunningService,
) -> None:
    await put(service, {"max_boxes": 1})
    answers = await asyncio.gather(*(put(service, {"max_boxes": n}) for n in range(2, 8)))
    assert [answer.status for answer in answers] == [200] * 6
    versions = await history(service)
    assert [one["version"] for one in versions] == list(range(7, 0, -1))
    assert all(one["changed"] == ["max_boxes"] for one in versions)


async def test_a_revert_restores_the_settings_as_a_new_version(service: RunningService) -> None:
    first = await put(service, {"jobs": [job()], "max_boxes": 1, "webhook_secret": "old"})
    await put(service, {"jobs": [job("other")], "webhook_secret": "new"})
    done = await revert(service, 1, token=await named(service, "ann"))
    assert (done.status, done.headers["ETag"]) == (200, '"1.3"')
    assert done.json == first.json
    latest, *_ = await history(service)
    assert (latest["reverts"], latest["by"], latest["version"]) == (1, "ann", 3)
    assert set(latest["changed"]) == {"jobs", "max_boxes"}
    stored = await service.node.store.project("web")
    assert stored is not None and stored.webhook_secret is not None
    vault = service.node.vault
    assert vault.open("project/1", "webhook_secret", 1, stored.webhook_secret) == "new"
    assert (await revert(service, 3)).headers["ETag"] == '"1.3"', "it is so already"
    unknown = await revert(service, 77)
    assert (unknown.status, unknown.error["field"]) == (422, "version")
    outdated = await revert(service, 2, headers={"If-Match": '"1.2"'})
    assert outdated.status == 412
    assert len(await history(service)) == 3


async def test_a_revert_is_checked_like_a_change(service: RunningService) -> None:
    git = {"repository": "https://github.com/a/b"}
    statuses = {"statuses": {"provider": "github", "token": "canary"}}
    await put(service, {**git, **statuses})
    await put(service, git)  # its token is removed
    refused = await revert(service, 1)
    assert (refused.status, refused.error["field"]) == (422, "statuses.token")


async def test_a_recreated_project_has_its_own_history(service: RunningService) -> None:
    await put(service, {"max_boxes": 1})
    await put(service, {"max_boxes": 2})
    await service.call("DELETE", f"{API}/projects/web")
    await put(service, {"max_boxes": 3})
    assert [one["version"] for one in await history(service)] == [1]


async def test_history_is_returned_in_pages(service: RunningService) -> None:
    for number in range(1, 6):
        await put(service, {"max_boxes": number})
    page = await service.get("/projects/web/history?limit=2")
    assert [one["version"] for one in page["versions"]] == [5, 4]
    page = await service.get(f"/projects/web/history?limit=3&cursor={page['next_cursor']}")
    assert [one["version"] for one in page["versions"]] == [3, 2, 1]
    assert page["next_cursor"] is None
    bad = await service.call("GET", f"{API}/projects/web/history?cursor=bm90aWZpY2F0aW9ucyAx")
    assert (bad.status, bad.error["field"]) == (422, "cursor")
    bad = await service.call("GET", f"{API}/projects/web/history?limit=101")
    assert (bad.status, bad.error["field"]) == (422, "limit")
