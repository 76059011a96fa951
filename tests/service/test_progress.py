"""The progress guarantee and the settings that it stands in, through the API."""

import asyncio
from pathlib import Path

from tests.service.house import API, House, job

RULES = [["main", "none"], ["*", "all", {"spare_after": 1}]]


async def test_settings_come_back_as_they_were_sent(house: House) -> None:
    servers = {"production": {"queue": "newest", "strategy": "automatic", "branch": "main"}}
    assert (await house.project(cancellation=RULES, servers=servers)).status == 201
    found = await house.get("/projects/web")
    assert found["cancellation"] == RULES
    assert found["servers"]["production"]["queue"] == "newest"
    assert (await house.get("/projects"))["projects"] == [found]


async def test_a_rule_that_makes_no_sense_is_refused(house: House) -> None:
    for rule, field in (
        (["*"], "cancellation[0]"),
        (["*", "all", {"spare_after": 0}], "cancellation[0][2].spare_after"),
        (["*", "all", {"spare": 1}], "cancellation[0][2].spare"),
        (["*", "all", {"spare_after": 1}, 1], "cancellation[0][3]"),
    ):
        answer = await house.project(cancellation=[rule])
        assert (answer.status, answer.error.get("field")) == (422, field), answer.body


async def test_one_build_is_spared_also_after_a_restart(tmp_path: Path) -> None:
    """The count of a lane and the spared build are in the store."""
    slow = [job("slow", "sleep 60")]
    options = {"boxes": 4, "box_driver": "none"}
    async with House.open(tmp_path / "data", **{**options, "boxes": 0}) as house:
        await house.project(cancellation=RULES, jobs=slow)
        first = (await house.build(branch="b"))["id"]
        second = (await house.build(branch="b"))["id"]
        await house.until(first, result="canceled")
        assert "superseded by web#2 (cancellation: all)" in (await house.look(first))["reason"]
        assert (await house.call("POST", f"{API}/workloads/{second}/stop")).status == 202
        await house.until(second, result="canceled")  # a person: it does not count
    async with House.open(tmp_path / "data", **{**options, "boxes": 0}) as house:
        third = (await house.build(branch="b"))["id"]
        fourth = (await house.build(branch="b"))["id"]
        await house.until(fourth, state="registered")
    async with House.open(tmp_path / "data", **{**options, "boxes": 0}) as house:
        # Spared: only one, so the fourth is canceled by the fifth.
        fifth = (await house.build(branch="b"))["id"]
        await house.until(fourth, result="canceled")
    async with House.open(tmp_path / "data", **options) as house:
        ended = await asyncio.gather(*(house.finished(one) for one in (third, fifth)))
        assert [one["result"] for one in ended] == ["passed", "passed"]
