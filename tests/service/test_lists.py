"""Long lists and lists of large values: written in slices, read with limits."""

import pytest

from boxsched.api.messages import answers
from tests.service.running_service import API, RunningService, job


async def test_projects_with_long_texts_are_listed_in_slices(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await boxless_service.project(f"p{number}", jobs=[job("test", "x" * 100_000)])
    inside, sizes = answers._inside, []

    def noted(values: list[object]) -> bytes:
        sizes.append(len(values))
        return inside(values)

    monkeypatch.setattr(answers, "_inside", noted)
    listed = (await boxless_service.get("/projects"))["projects"]
    assert [one["name"] for one in listed] == [f"p{number}" for number in range(5)]
    assert sizes == [1] * 5


async def test_a_list_of_wide_workloads_is_cut_and_continues(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project()
    wide = [job(f"j{n}") for n in range(1_000)]
    ids = [(await boxless_service.build(jobs=wide))["id"] for _ in range(5)]
    seen, cursor, pages = [], "", 0
    while True:
        page = await boxless_service.get(f"/workloads?limit=200{cursor}")
        seen += [one["id"] for one in page["workloads"]]
        assert sum(len(one["jobs"]) for one in page["workloads"]) <= 2_000
        pages += 1
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert (seen, pages) == (ids[::-1], 3)


async def test_rare_rows_are_found_and_an_empty_page_has_a_next_page(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.store.steps.pages.WALK_AT_MOST", 4)
    monkeypatch.setattr("boxsched.store.steps.pages.LOOKED_AT_MOST", 10)
    await boxless_service.project()
    rare = await boxless_service.build(branch="rare")
    for number in range(30):
        await boxless_service.build(branch=f"b{number}", priority=1)
    page = await boxless_service.get("/workloads?project=web&branch=rare")
    assert [one["id"] for one in page["workloads"]] == [rare["id"]]
    assert page["next_cursor"] is None
    assert await boxless_service.get("/workloads?project=web&branch=nope") == {
        "workloads": [],
        "next_cursor": None,
    }
    page = await boxless_service.get("/workloads?project=web&server=none&kind=deploy")
    assert page == {"workloads": [], "next_cursor": None}
    page = await boxless_service.get("/workloads?state=finished&limit=5")
    assert page["workloads"] == [] and page["next_cursor"] is not None


async def test_a_list_says_why_rows_wait_if_it_is_asked(boxless_service: RunningService) -> None:
    await boxless_service.project()
    first, second = [await boxless_service.build() for _ in range(2)]
    await boxless_service.until(first["id"], state="queued")
    listed = await boxless_service.get("/workloads?why=1")
    assert [(one["id"], one["why"]) for one in listed["workloads"]] == [
        (second["id"], "Waits for build #1 of web to finish."),
        (first["id"], "No worker is connected: start one with `boxsched worker`."),
    ]
    assert not any("why" in one for one in (await boxless_service.get("/workloads"))["workloads"])
    answer = await boxless_service.call("GET", f"{API}/workloads?why=perhaps")
    assert (answer.status, answer.error["field"]) == (422, "why")
