"""From a change of a workload to a request at a receiver, through the outbox."""

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.outgoing.composing import Composer
from boxsched.outgoing.retrying import GIVEN_UP_SECONDS
from tests.outgoing.receiver import Receiver, json_of
from tests.service.running_service import API, RunningService, job

SHA = "1a410efbd13591db07496601ebc7a059dd55cfe9"
ALL = [f"workload.{what}" for what in ("registered", "queued", "started", "finished")]
TOKEN, SECRET = "canary-token-77", "canary-secret-78"


@pytest.fixture
async def open_service(tmp_path: Path) -> AsyncIterator[RunningService]:
    """Requests to this machine are allowed."""
    async with RunningService.open(
        tmp_path / "data", allow_outgoing=("127.0.0.1",), external_url="https://ci.example"
    ) as opened:
        yield opened


async def listed(
    service: RunningService, count: int, query: str = "", **wanted: object
) -> list[Any]:
    """Return the notifications once there are this many with these values."""
    async with asyncio.timeout(20):
        while True:
            found = (await service.get(f"/notifications{query}"))["notifications"]
            if len(found) == count and all(
                one[field] == value for one in found for field, value in wanted.items()
            ):
                return list(found)
            await asyncio.sleep(0.02)


async def test_a_hook_receives_the_events_of_a_workload_in_order_and_signed(
    open_service: RunningService,
) -> None:
    async with Receiver.open() as receiver:
        hook = {"url": f"{receiver.url}/x?y=1", "events": ALL, "secret": SECRET}
        assert (await open_service.project(hooks=[hook])).status == 201
        build = await open_service.build()
        got = await receiver.until(4)
        assert [json_of(one)["type"] for one in got] == ALL
        last = json_of(got[-1])
        seen = await open_service.look(build["id"])
        assert last["workload"] == seen and seen["result"] == "passed"
        for one in got:
            stamp = one.headers["X-Boxsched-Timestamp"]
            made = hmac.new(SECRET.encode(), stamp.encode() + b"." + one.body, hashlib.sha256)
            assert one.headers["X-Boxsched-Signature"] == f"sha256={made.hexdigest()}"
            assert one.headers["X-Boxsched-Delivery"] == json_of(one)["delivery"]
        assert len({json_of(one)["delivery"] for one in got}) == 4
        rows = await listed(open_service, 4, state="delivered", status=200, attempts=1)
        assert [row["event"] for row in rows] == ALL[::-1]
        assert rows[0]["url"] == f"{receiver.url}/x?y=1"


async def test_a_node_whose_machine_slept_signs_with_the_databases_time(
    open_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def ahead() -> float:
        return 2_000_000_000.0

    async with Receiver.open() as receiver:
        hook = {"url": receiver.url, "events": ["workload.finished"], "secret": SECRET}
        await open_service.project(hooks=[hook])
        monkeypatch.setattr(open_service.node.store, "time", ahead)
        await open_service.build()
        (got,) = await receiver.until(1)
        assert got.headers["X-Boxsched-Timestamp"] == "2000000000"


async def test_only_the_events_that_a_hook_names_are_sent(open_service: RunningService) -> None:
    async with Receiver.open() as receiver:
        await open_service.project(hooks=[{"url": receiver.url, "events": ["workload.finished"]}])
        await open_service.project("other")
        await open_service.build("other")
        await open_service.build()
        await listed(open_service, 1, state="delivered", event="workload.finished", project="web")
        [got] = receiver.got
        assert "X-Boxsched-Signature" not in got.headers


async def test_a_commit_status_is_sent_to_the_code_host(open_service: RunningService) -> None:
    async with Receiver.open(201) as host:
        await open_service.project(
            repository="https://github.com/acme/shop.git",
            statuses={"provider": "github", "api_url": host.url, "token": TOKEN},
        )
        build = await open_service.build(commit=SHA)
        got = await host.until(3)
        assert [json_of(one)["state"] for one in got] == ["pending", "pending", "success"]
        assert {one.path for one in got} == {f"/repos/acme/shop/statuses/{SHA}"}
        assert got[0].headers["Authorization"] == f"Bearer {TOKEN}"
        assert json_of(got[0])["context"] == "boxsched/web"
        assert json_of(got[0])["target_url"] == f"https://ci.example/#{build['id']}"
        await listed(open_service, 3, kind="status", provider="github", state="delivered")


async def test_without_a_commit_and_for_deploys_there_is_no_status(
    open_service: RunningService,
) -> None:
    async with Receiver.open() as host:
        await open_service.project(
            repository="https://github.com/acme/shop.git",
            statuses={"provider": "github", "api_url": host.url, "token": TOKEN},
            servers={"production": {"jobs": [job()]}},
        )
        await open_service.until((await open_service.build())["id"], state="finished")
        deploy = await open_service.deploy("production", commit=SHA)
        await open_service.until(deploy["id"], state="finished")
        assert await listed(open_service, 0) == []
        assert host.got == []


async def test_write_only_values_are_never_returned_and_stay(
    open_service: RunningService, tmp_path: Path
) -> None:
    async with Receiver.open() as receiver:
        statuses = {"provider": "gitea", "api_url": receiver.url, "token": TOKEN}
        hook = {"url": f"{receiver.url}/hook", "secret": SECRET}
        where = {"repository": "https://git.example/acme/shop"}
        answers = [await open_service.project(**where, statuses=statuses, hooks=[hook])]
        del statuses["token"], hook["secret"]
        answers.append(await open_service.project(**where, statuses=statuses, hooks=[hook]))
        answers.append(await open_service.call("GET", f"{API}/projects/web"))
        assert [answer.status for answer in answers] == [201, 200, 200]
        shown = answers[-1].json
        assert shown["statuses"] == statuses
        assert shown["hooks"] == [{**hook, "events": ["workload.finished"]}]
        await open_service.build(commit=SHA)
        got = await receiver.until(4)
        by_path = {one.path: one for one in got}
        assert "X-Boxsched-Signature" in by_path["/hook"].headers
        listed_now = (await open_service.get("/notifications"))["notifications"]
        signed = {one["kind"]: one["signed"] for one in listed_now}
        assert signed == {"hook": True, "status": None}
        status = next(one for path, one in by_path.items() if path.startswith("/repos"))
        assert status.headers["Authorization"] == f"token {TOKEN}"
        rows = await open_service.call("GET", f"{API}/notifications")
        for canary in (TOKEN, SECRET):
            assert all(canary.encode() not in one.body for one in [*answers, rows])
            files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
            assert all(canary.encode() not in path.read_bytes() for path in files)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"hooks": [{"url": "ftp://h/x"}]}, "hooks[0].url"),
        ({"hooks": [{"url": "nonsense"}]}, "hooks[0].url"),
        ({"hooks": [{"url": "http://u:p@h/"}]}, "hooks[0].url"),
        ({"hooks": [{"url": "http://h:99999/"}]}, "hooks[0].url"),
        ({"hooks": [{"url": "https://h/"}, {"url": "https://h/"}]}, "hooks[1].url"),
        ({"hooks": [{"url": "https://h/", "events": ["nonsense"]}]}, "hooks[0].events[0]"),
        ({"hooks": [{"url": "https://h/", "events": []}]}, "hooks[0].events"),
        ({"hooks": [{"events": ["workload.finished"]}]}, "hooks[0].url"),
        ({"hooks": [{"url": "https://h/"}, {"url": "http://10.0.0.1/"}]}, "hooks[1].url"),
        ({"hooks": [{"url": "http://127.1/"}]}, "hooks[0].url"),
        ({"hooks": [{"url": "http://0/"}]}, "hooks[0].url"),
        ({"hooks": [{"url": "http://2130706433/"}]}, "hooks[0].url"),
        ({"hooks": [{"url": "http://0x7f.1/"}]}, "hooks[0].url"),
        ({"hooks": [{"url": "http://[::1]/"}]}, "hooks[0].url"),
        ({"repository": "https://h/a/b",
          "statuses": {"provider": "gitea", "token": "t", "api_url": "http://127.1/"}},
         "statuses.api_url"),
        ({"repository": "https://127.0.0.1/a/b", "statuses": {"provider": "gitea", "token": "t"}},
         "statuses.api_url"),
        ({"hooks": [{"url": f"https://h/{n}"} for n in range(21)]}, "hooks"),
        ({"statuses": {"provider": "github", "token": "t"}}, "statuses"),
        ({"statuses": {"provider": "svn", "token": "t"}}, "statuses.provider"),
        (
            {"repository": "https://h/a/b", "statuses": {"provider": "github"}},
            "statuses.token",
        ),
        (
            {"repository": "https://h/a/b", "statuses": {"provider": "github", "token": "a\nb"}},
            "statuses.token",
        ),
        ({"repository": "https://h/a", "statuses": {"provider": "github", "token": "t"}},
         "repository"),
        ({"repository": "/srv/a/b", "statuses": {"provider": "gitea", "token": "t"}},
         "statuses.api_url"),
    ],
)  # fmt: skip
async def test_a_bad_setting_is_refused_with_its_field(
    boxless_service: RunningService, settings: dict[str, Any], field: str
) -> None:
    answer = await boxless_service.project(**settings)
    assert (answer.status, answer.error["field"]) == (422, field)


async def test_a_token_is_not_sent_to_another_host(boxless_service: RunningService) -> None:
    where = {"repository": "https://git.example/a/b"}
    asked = {"provider": "gitea", "api_url": "https://one.example/", "token": TOKEN}
    assert (await boxless_service.project(**where, statuses=asked)).status == 201
    moved = {"provider": "gitea", "api_url": "https://two.example/"}
    answer = await boxless_service.project(**where, statuses=moved)
    assert (answer.status, answer.error["field"]) == (422, "statuses.token")


async def test_a_private_address_is_refused_unless_it_is_allowed(service: RunningService) -> None:
    """An address at once, a name when it was looked up."""
    async with Receiver.open() as receiver:
        refused = await service.project(hooks=[{"url": receiver.url}])
        assert refused.status == 422
        assert "--allow-outgoing 127.0.0.1" in refused.error["message"]
        url = receiver.url.replace("127.0.0.1", "localhost")
        assert (await service.project(hooks=[{"url": url}])).status == 201
        await service.build()
        [row] = await listed(service, 1, state="dead", attempts=1)
        assert "--allow-outgoing localhost" in row["error"]
        assert receiver.got == []


async def test_an_address_has_one_notation(open_service: RunningService) -> None:
    refused = await open_service.project(hooks=[{"url": "http://127.1/"}])
    assert (refused.status, refused.error["field"]) == (422, "hooks[0].url")
    assert refused.error["message"] == "write its host 127.1 as 127.0.0.1"


async def test_a_redirect_is_not_followed(open_service: RunningService) -> None:
    async with Receiver.open(302) as receiver, Receiver.open() as inner:
        receiver.headers = {"Location": inner.url}
        await open_service.project(hooks=[{"url": receiver.url}])
        await open_service.build()
        [row] = await listed(open_service, 1, state="waiting", attempts=1, status=302)
        assert "redirects are not followed" in row["error"]
        assert inner.got == []


async def test_a_failed_notification_is_sent_again_with_the_same_delivery_id(
    open_service: RunningService,
) -> None:
    async with Receiver.open(500) as receiver:
        await open_service.project(hooks=[{"url": receiver.url, "secret": SECRET}])
        await open_service.build()
        [row] = await listed(open_service, 1, status=500)
        receiver.status = 200
        again = await open_service.call("POST", f"{API}/notifications/{row['id']}/resend")
        assert (again.status, again.json["state"]) == (202, "waiting")
        [done] = await listed(open_service, 1, "?state=delivered")
        assert (done["attempts"], done["error"]) == (2, None)
        one, two = receiver.got
        assert json_of(one)["delivery"] == json_of(two)["delivery"]
        assert await listed(open_service, 0, "?state=dead") == []
        assert (await open_service.get(f"/notifications/{row['id']}"))["state"] == "delivered"


async def test_a_notification_that_fails_for_a_day_is_given_up(
    open_service: RunningService,
) -> None:
    async with Receiver.open(500) as receiver:
        await open_service.project(hooks=[{"url": receiver.url}])
        await open_service.build()
        await listed(open_service, 1, state="waiting", status=500, attempts=1)
        clock = open_service.node.clock
        receiver.status = 501
        clock.not_before(clock.now() + GIVEN_UP_SECONDS - 60)
        await listed(open_service, 1, state="waiting", status=501, attempts=2)
        receiver.status = 502
        clock.not_before(clock.now() + 3_600)
        [row] = await listed(open_service, 1, state="dead", status=502, attempts=3)
        assert row["next_try_at"] is None
        assert len(receiver.got) == 3


async def test_a_notification_that_cannot_be_composed_counts_as_a_failed_try(
    open_service: RunningService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise its claim would start and end every 30 s forever."""

    def raises(*_: object) -> None:
        raise RecursionError("canary")

    monkeypatch.setattr(Composer, "request", raises)
    async with Receiver.open() as receiver:
        await open_service.project(hooks=[{"url": receiver.url}])
        await open_service.build()
        why = "it could not be composed: RecursionError"
        [row] = await listed(open_service, 1, state="waiting", attempts=1, error=why)
        assert row["next_try_at"] is not None
        assert receiver.got == []
    assert "could not be composed" in caplog.text


@pytest.mark.parametrize("id_", ["0", "77", "x", "9" * 30])
async def test_an_unknown_notification_gets_404(boxless_service: RunningService, id_: str) -> None:
    for method, path in (("GET", ""), ("POST", "/resend")):
        answer = await boxless_service.call(method, f"{API}/notifications/{id_}{path}")
        assert answer.status == 404


@pytest.mark.parametrize("query", ["state=nonsense", "limit=0", "limit=201", "cursor=x", "other=1"])
async def test_a_bad_query_is_refused(boxless_service: RunningService, query: str) -> None:
    answer = await boxless_service.call("GET", f"{API}/notifications?{query}")
    assert (answer.status, answer.error["field"]) == (422, query.partition("=")[0])


async def test_a_list_continues_after_its_cursor(open_service: RunningService) -> None:
    async with Receiver.open() as receiver:
        await open_service.project(hooks=[{"url": receiver.url, "events": ALL}])
        await open_service.build()
        rows = await listed(open_service, 4, state="delivered")
        first = await open_service.get("/notifications?limit=3")
        rest = await open_service.get(f"/notifications?limit=3&cursor={first['next_cursor']}")
        assert [*first["notifications"], *rest["notifications"]] == rows
        assert rest["next_cursor"] is None


async def test_retry_after_is_obeyed_for_the_whole_host(open_service: RunningService) -> None:
    async with Receiver.open(429) as receiver:
        receiver.headers = {"Retry-After": "3600"}
        await open_service.project(hooks=[{"url": receiver.url}])
        await open_service.build()
        await listed(open_service, 1, attempts=1, status=429)
        await open_service.until((await open_service.build())["id"], state="finished")
        sender = open_service.node.sender
        now = open_service.node.clock.now()
        assert await open_service.node.store.due_hosts(now) != []
        assert await sender.run_once() == 0
        assert len(receiver.got) == 1


async def test_a_receiver_that_hangs_delays_no_other_and_no_build(
    open_service: RunningService,
) -> None:
    async with Receiver.open() as hanging, Receiver.open() as quick:
        hanging.gate.clear()
        await open_service.project(hooks=[{"url": hanging.url}, {"url": quick.url}])
        builds = [await open_service.build(branch=f"b{n}") for n in range(40)]
        for build in builds:
            await open_service.until(build["id"], state="finished")
        await quick.until(40)
        assert len(hanging.got) == 16  # requests that are running


async def test_a_removed_target_receives_nothing_more(open_service: RunningService) -> None:
    async with Receiver.open(500) as receiver:
        await open_service.project(hooks=[{"url": receiver.url}])
        await open_service.build()
        [row] = await listed(open_service, 1, status=500)
        await open_service.project()
        await open_service.call("POST", f"{API}/notifications/{row['id']}/resend")
        [row] = await listed(open_service, 1, state="dead")
        assert "no longer" in row["error"]
        assert len(receiver.got) == 1
