"""The progress guarantee and its settings, through the API."""

import asyncio
from pathlib import Path

from tests.service.running_service import API, RunningService, job

RULES = [["main", "none"], ["*", "all", {"spare_after": 1}]]


async def test_settings_are_returned_as_they_were_sent(service: RunningService) -> None:
    server = {"jobs": [job()], "queue": "newest", "strategy": "automatic", "branch": "main"}
    servers = {"production": server}
    assert (await service.project(cancellation=RULES, servers=servers)).status == 201
    found = await service.get("/projects/web")
    assert found["cancellation"] == RULES
    assert found["servers"]["production"]["queue"] == "newest"
    assert (await service.get("/projects"))["projects"] == [found]


async def test_an_invalid_rule_is_refused(service: RunningService) -> None:
    for rule, field in (
        (["*"], "cancellation[0]"),
        (["*", "all", {"spare_after": 0}], "cancellation[0][2].spare_after"),
        (["*", "all", {"spare": 1}], "cancellation[0][2].spare"),
        (["*", "all", {"spare_after": 1}, 1], "cancellation[0][3]"),
    ):
        answer = await service.project(cancellation=[rule])
        assert (answer.status, answer.error.get("field")) == (422, field), answer.body


async def test_one_build_is_spared_also_after_a_restart(tmp_path: Path) -> None:
    """The count of a lane and the spared build are in the store."""
    slow = [job("slow", "sleep 60")]
    options = {"boxes": 4, "box_driver": "none"}
    async with RunningService.open(tmp_path / "data", **{**options, "boxes": 0}) as service:
        await service.project(cancellation=RULES, jobs=slow)
        first = (await service.build(branch="b"))["id"]
        second = (await service.build(branch="b"))["id"]
        await service.until(first, result="canceled")
        assert "superseded by web#2 (cancellation: all)" in (await service.look(first))["reason"]
        assert (await service.call("POST", f"{API}/workloads/{second}/stop")).status == 202
        await service.until(second, result="canceled")  # by a person: it does not count
    async with RunningService.open(tmp_path / "data", **{**options, "boxes": 0}) as service:
        third = (await service.build(branch="b"))["id"]
        fourth = (await service.build(branch="b"))["id"]
        await service.until(fourth, state="registered")
    async with RunningService.open(tmp_path / "data", **{**options, "boxes": 0}) as service:
        # Spared: only one, so the fourth is canceled by the fifth.
        fifth = (await service.build(branch="b"))["id"]
        await service.until(fourth, result="canceled")
        assert [(await service.look(one))["spared"] for one in (third, fifth)] == [True, False]
        said = (await service.get(f"/workloads/{third}/explanation"))["text"]
        assert said.endswith(" Newer builds of its branch do not cancel or stop it (spare_after).")
    async with RunningService.open(tmp_path / "data", **options) as service:
        ended = await asyncio.gather(*(service.finished(one) for one in (third, fifth)))
        assert [one["result"] for one in ended] == ["passed", "passed"]
