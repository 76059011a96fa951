"""Commands that the scheduler could not carry out: an operator sees them, and why."""

import pytest

from boxsched import inbox
from boxsched.engine.turn import Turn
from boxsched.store.contract import SHARD
from tests.service.house import API, House


async def test_an_operator_lists_and_drops_what_was_set_aside(house: House) -> None:
    async with house.node.feed.subscribe(None) as events:
        await house.node.store.ask(SHARD, [("bogus", b"[1]")])
        house.node.wake(SHARD)
        async for event in events:
            if event.type == "command.set_aside":
                break
    (one,) = (await house.get("/set-aside"))["commands"]
    assert (one["kind"], one["payload"], one["workload"]) == ("bogus", "[1]", None)
    assert one["error"].startswith("KeyError")
    metrics = (await house.call("GET", "/metrics", token=None)).body.decode()
    assert "boxsched_commands_set_aside_total 1.0" in metrics
    path = f"{API}/set-aside"
    assert (await house.call("DELETE", f"{path}/{one['id']}")).status == 204
    for gone in (one["id"], "x", "9" * 40):
        assert (await house.call("DELETE", f"{path}/{gone}")).status == 404
    assert await house.get("/set-aside") == {"commands": []}


async def test_a_submission_that_raises_is_shown_with_its_error_and_the_node_goes_on(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = Turn._submit

    def raising(turn: Turn, command: inbox.Submit) -> None:
        if command.branch == "poison":
            raise ZeroDivisionError("of the test")
        submit(turn, command)

    monkeypatch.setattr(Turn, "_submit", raising)
    await house.project()
    bad = await house.build(branch="poison")
    ended = await house.finished(bad["id"])
    assert (ended["result"], ended["started_at"]) == ("canceled", None)
    assert "ZeroDivisionError: of the test" in ended["reason"]
    explained = await house.get(f"/workloads/{bad['id']}/explanation")
    assert "ZeroDivisionError: of the test" in explained["text"]
    good = await house.build(branch="good")
    assert (await house.finished(good["id"]))["result"] == "passed"


async def test_an_explanation_tells_of_a_stop_that_raised(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = Turn.decide

    def raising(turn: Turn, event: object) -> None:
        if turn._asked_by:
            raise KeyError("of the test")
        decide(turn, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Turn, "decide", raising)
    await house.project()
    built = await house.build(jobs=[{"name": n, "commands": ["true"]} for n in "abcde"])
    async with house.node.feed.subscribe(None) as events:
        stopped = await house.call("POST", f"{API}/workloads/{built['id']}/stop")
        assert stopped.status == 202
        async for event in events:
            if event.type == "command.set_aside":
                break
    explained = await house.get(f"/workloads/{built['id']}/explanation")
    assert "(stop) raised and was set aside: KeyError: 'of the test'" in explained["text"]
