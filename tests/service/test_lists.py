"""Long lists, and lists of what is large: made in slices, read in bounds."""

import pytest

from boxsched.api.messages import answers
from tests.service.house import House, job


async def test_projects_of_much_text_are_listed_in_slices(
    waiting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        await waiting.project(f"p{number}", jobs=[job("test", "x" * 100_000)])
    inside, sizes = answers._inside, []

    def noted(values: list[object]) -> bytes:
        sizes.append(len(values))
        return inside(values)

    monkeypatch.setattr(answers, "_inside", noted)
    listed = (await waiting.get("/projects"))["projects"]
    assert [one["name"] for one in listed] == [f"p{number}" for number in range(5)]
    assert sizes == [1] * 5


async def test_a_list_of_wide_workloads_is_cut_and_continues(waiting: House) -> None:
    await waiting.project()
    wide = [job(f"j{n}") for n in range(1_000)]
    ids = [(await waiting.build(jobs=wide))["id"] for _ in range(5)]
    seen, cursor, pages = [], "", 0
    while True:
        page = await waiting.get(f"/workloads?limit=200{cursor}")
        seen += [one["id"] for one in page["workloads"]]
        assert sum(len(one["jobs"]) for one in page["workloads"]) <= 2_000
        pages += 1
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert (seen, pages) == (ids[::-1], 3)


async def test_rare_rows_are_found_and_an_empty_page_has_a_next_one(
    waiting: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("boxsched.store.steps.pages.WALK_AT_MOST", 4)
    monkeypatch.setattr("boxsched.store.steps.pages.LOOKED_AT_MOST", 10)
    await waiting.project()
    rare = await waiting.build(branch="rare")
    for number in range(30):
        await waiting.build(branch=f"b{number}", priority=1)
    page = await waiting.get("/workloads?project=web&branch=rare")
    assert [one["id"] for one in page["workloads"]] == [rare["id"]]
    assert page["next_cursor"] is None
    assert await waiting.get("/workloads?project=web&branch=nope") == {
        "workloads": [],
        "next_cursor": None,
    }
    page = await waiting.get("/workloads?project=web&server=none&kind=deploy")
    assert page == {"workloads": [], "next_cursor": None}
    page = await waiting.get("/workloads?state=finished&limit=5")
    assert page["workloads"] == [] and page["next_cursor"] is not None
