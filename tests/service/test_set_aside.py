"""Commands that the scheduler could not carry out: an operator sees them and the reason."""

import asyncio
import json

import pytest
from click.testing import CliRunner, Result

from boxsched.cli import main
from boxsched.engine import submissions
from boxsched.engine.outcomes import Outcomes
from boxsched.protocol import inbox
from boxsched.protocol.shards import SHARD
from tests.service.running_service import API, RunningService


async def test_an_operator_lists_and_drops_commands_that_were_set_aside(
    service: RunningService,
) -> None:
    async with service.node.feed.subscribe(None) as events:
        await service.node.store.ask(SHARD, [("bogus", b"[1]")])
        service.node.wake(SHARD)
        async for event in events:
            if event.type == "command.set_aside":
                break
    (one,) = (await service.get("/set-aside"))["commands"]
    assert (one["kind"], one["payload"], one["workload"]) == ("bogus", "[1]", None)
    assert one["error"].startswith("KeyError")
    assert await service.get(f"/set-aside/{one['id']}") == one
    metrics = (await service.call("GET", "/metrics", token=None)).body.decode()
    assert "boxsched_commands_set_aside_total 1.0" in metrics
    path = f"{API}/set-aside"
    assert (await service.call("DELETE", f"{path}/{one['id']}")).status == 204
    for gone in (one["id"], "x", "9" * 40):
        assert (await service.call("DELETE", f"{path}/{gone}")).status == 404
        assert (await service.call("GET", f"{path}/{gone}")).status == 404
    assert await service.get("/set-aside") == {"commands": []}


async def bogus(service: RunningService, *payloads: bytes) -> None:
    """Store unreadable commands, which are set aside."""
    async with service.node.feed.subscribe(None) as events:
        await service.node.store.ask(SHARD, [("bogus", payload) for payload in payloads])
        service.node.wake(SHARD)
        left = len(payloads)
        async for event in events:
            left -= event.type == "command.set_aside"
            if not left:
                return


async def boxsched(service: RunningService, *arguments: str, status: int = 0) -> Result:
    """Run a command against the service."""
    variables = {"BOXSCHED_URL": service.url, "BOXSCHED_TOKEN": service.token}
    done = await asyncio.to_thread(CliRunner().invoke, main, list(arguments), env=variables)
    assert done.exit_code == status, done.output
    return done


async def test_the_command_line_lists_shows_and_drops(service: RunningService) -> None:
    assert (await boxsched(service, "set-aside", "list")).stdout == "no command is set aside\n"
    await bogus(service, b"[1]", b'"\x1b[31mred"')
    latest, first = (await service.get("/set-aside"))["commands"]
    listed = (await boxsched(service, "set-aside", "list")).stdout.splitlines()
    assert listed[0].split() == ["ID", "KIND", "WORKLOAD", "WHEN", "ERROR"]
    assert [line.split()[:2] for line in listed[1:]] == [
        [latest["id"], "bogus"],
        [first["id"], "bogus"],
    ]
    assert "KeyError" in listed[1]
    shown = (await boxsched(service, "set-aside", "show", first["id"])).stdout
    assert f"bogus ({first['id']}), set aside " in shown
    assert first["error"] in shown and "payload:  [1]" in shown
    assert "\x1b" not in (await boxsched(service, "set-aside", "show", latest["id"])).stdout
    as_json = await boxsched(service, "set-aside", "show", first["id"], "--json")
    assert json.loads(as_json.stdout) == first
    as_json = await boxsched(service, "set-aside", "list", "--json")
    assert json.loads(as_json.stdout) == {"commands": [latest, first]}
    dropped = await boxsched(service, "set-aside", "drop", first["id"], "--yes")
    assert dropped.stdout == f"{first['id']}: dropped\n"
    for command in (("show", first["id"]), ("drop", first["id"], "--yes"), ("show", "x/y")):
        failed = await boxsched(service, "set-aside", *command, status=2)
        assert f"there is no command '{command[1]}'" in failed.stderr
    assert (await service.get("/set-aside"))["commands"] == [latest]


async def test_an_operator_sees_how_many_old_entries_were_dropped(service: RunningService) -> None:
    service.node.retention.set_aside_dropped = 7
    metrics = (await service.call("GET", "/metrics", token=None)).body.decode()
    assert "boxsched_set_aside_dropped_total 7.0" in metrics


async def test_a_submission_that_raises_is_shown_with_its_error_and_the_node_continues(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = submissions.submit

    def raising(out: Outcomes, command: inbox.Submit) -> None:
        if command.branch == "poison":
            raise ZeroDivisionError("of the test")
        submit(out, command)

    monkeypatch.setattr(submissions, "submit", raising)
    await service.project()
    bad = await service.build(branch="poison")
    ended = await service.finished(bad["id"])
    assert (ended["result"], ended["started_at"]) == ("canceled", None)
    assert "ZeroDivisionError: of the test" in ended["reason"]
    explained = await service.get(f"/workloads/{bad['id']}/explanation")
    assert "ZeroDivisionError: of the test" in explained["text"]
    good = await service.build(branch="good")
    assert (await service.finished(good["id"]))["result"] == "passed"


async def test_an_explanation_mentions_a_stop_that_failed(
    service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide = Outcomes.decide

    def raising(out: Outcomes, event: object) -> None:
        if out.asked_by:
            raise KeyError("of the test")
        decide(out, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Outcomes, "decide", raising)
    await service.project()
    built = await service.build(jobs=[{"name": n, "commands": ["true"]} for n in "abcde"])
    async with service.node.feed.subscribe(None) as events:
        stopped = await service.call("POST", f"{API}/workloads/{built['id']}/stop")
        assert stopped.status == 202
        async for event in events:
            if event.type == "command.set_aside":
                break
    explained = await service.get(f"/workloads/{built['id']}/explanation")
    assert "(stop) failed and was set aside: KeyError: 'of the test'" in explained["text"]
