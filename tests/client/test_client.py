"""The client with services that answer, refuse, and go away."""

import asyncio
import json
from datetime import UTC, datetime

import pytest
from aiohttp import web
from yarl import URL

from boxsched import errors
from boxsched.client import BlockingClient, Client, Unreachable
from boxsched.client.http import Patience
from boxsched.client.refusals import refusal
from boxsched.states import Result, State
from tests.client.scripted_answers import (
    FINISHED,
    WORKLOAD,
    breaks,
    event,
    free_port,
    log_part,
    refuses,
    says,
    streams,
)

SOMEWHERE = URL("http://ci.example.org")


@pytest.fixture
def client(service):
    return Client(service.url, "the-token", patience=5)


async def test_a_submission_sends_what_was_given(service, client):
    service.part = [says(WORKLOAD, 201)]
    async with client:
        build = await client.build("web", branch="main", priority=0, key="my-key")
    assert (build.id, build.state, build.title) == ("w1", State.REGISTERED, "web#1")
    assert build.created_at == datetime(2026, 1, 2, 3, 4, 5, 6, UTC)
    [(method, path, headers, body)] = service.requests
    assert (method, path) == ("POST", "/api/v1/projects/web/builds")
    assert headers["Authorization"] == "Bearer the-token"
    assert headers["Idempotency-Key"] == "my-key"
    assert json.loads(body) == {"branch": "main", "priority": 0}  # what was not given is not sent


async def test_names_cannot_change_the_path(service, client):
    service.part = [refuses(404, "not_found")]
    async with client:
        with pytest.raises(errors.NotFound):
            await client.workload("../projects?x=#y")
    assert service.requests[0][1] == "/api/v1/workloads/..%2Fprojects%3Fx%3D%23y"


async def test_a_project_is_changed_only_in_the_version_that_was_checked(service, client):
    service.part = [refuses(412, "outdated", "it has changed", field="If-Match")]
    async with client:
        with pytest.raises(errors.Outdated):
            await client.put_checked_project("web", {"max_boxes": 3}, "1.7")
        with pytest.raises(errors.Outdated):
            await client.put_checked_project("web", {}, None)
        with pytest.raises(errors.Conflict):
            await client.revert_project("web", 3, etag="1.7")
    [changed, made, reverted] = service.requests
    assert (changed[1], changed[2]["If-Match"]) == ("/api/v1/projects/web", '"1.7"')
    assert made[2]["If-None-Match"] == "*" and "If-Match" not in made[2]
    assert (reverted[1], reverted[2]["If-Match"]) == ("/api/v1/projects/web/revert", '"1.7"')
    assert json.loads(reverted[3]) == {"version": 3}


async def test_a_refusal_is_an_error_with_its_code_and_field(service, client):
    service.part = [refuses(422, "invalid", "Expected str", field="jobs[0].commands")]
    async with client:
        with pytest.raises(errors.Invalid) as raised:
            await client.put_project("web", {})
    assert (raised.value.code, raised.value.field) == ("invalid", "jobs[0].commands")
    assert len(service.requests) == 1  # repeating it does not help


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "malformed", errors.Malformed),
        (401, "unauthorized", errors.Unauthorized),
        (403, "forbidden", errors.Forbidden),
        (404, "not_found", errors.NotFound),
        (409, "conflict", errors.Conflict),
        (409, "a_code_of_a_later_version", errors.Conflict),
        (413, "too_large", errors.TooLarge),
        (418, "teapot", errors.Invalid),
        (422, "invalid", errors.Invalid),
        (429, "too_many", errors.TooMany),
        (500, "error", errors.StoreAway),
        (503, "store_away", errors.StoreAway),
        (503, "outcome_unknown", errors.OutcomeUnknown),
        (503, "fenced", errors.Fenced),
    ],
)
def test_every_refusal_has_its_error_class(status, code, kind):
    body = json.dumps({"error": {"code": code, "message": "no"}}).encode()
    error = refusal(status, body, {"Retry-After": "7"}, SOMEWHERE)
    assert type(error) is kind
    assert error.code == code
    assert error.message == "no"
    assert getattr(error, "retry_after", 7) == 7


async def test_while_the_service_is_away_a_call_is_repeated_with_the_same_key(service, client):
    service.part = [
        refuses(503, "outcome_unknown"),
        breaks,
        says({"error": {"code": "too_many", "message": "later"}}, 429, {"Retry-After": "0"}),
        says(WORKLOAD, 201),
    ]
    async with client:
        await client.build("web", branch="main")
    keys = {headers["Idempotency-Key"] for _, _, headers, _ in service.requests}
    assert len(service.requests) == 4
    assert len(keys) == 1


async def test_two_submissions_have_two_keys(service, client):
    service.part = [says(WORKLOAD, 201)]
    async with client:
        await client.build("web", branch="main")
        await client.build("web", branch="main")
    assert len({headers["Idempotency-Key"] for _, _, headers, _ in service.requests}) == 2


async def test_the_client_gives_up_after_its_time_limit(service):
    service.part = [refuses(503, "store_away", "the disk is full")]
    async with Client(service.url, "t", patience=0.3) as client:
        with pytest.raises(errors.StoreAway, match="the disk is full"):
            await client.projects()
    assert len(service.requests) >= 2


async def test_a_service_that_does_not_listen_is_away():
    async with Client(f"http://127.0.0.1:{free_port()}", "t", patience=0) as client:
        with pytest.raises(Unreachable, match="nothing listens there"):
            await client.projects()


def test_retry_pauses_are_random_and_end_in_time():
    now = 0.0
    patience = Patience(10.0, lambda: 0.5, lambda: now)
    pauses = []
    while (pause := patience.next_pause(errors.StoreAway("away"))) is not None:
        pauses.append(round(pause, 3))
        now += pause
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0]


@pytest.mark.parametrize(
    "url", ["", "localhost:8080", "ftp://x", "http://", "http://a..b", f"http://{'a' * 64}.org"]
)
def test_an_invalid_address_is_refused(url):
    with pytest.raises(errors.Invalid):
        Client(url, None)


async def test_an_answer_of_another_program(service, client):
    service.part = [says(["what", "is", "this"])]
    async with client:
        with pytest.raises(errors.Malformed, match="the answer is not from a boxsched service"):
            await client.workload("w1")


async def test_events_continue_after_the_last_one_seen(service, client):
    service.part = [
        streams(event("1.1.1", "workload.queued", workload="w1"), then_break=True),
        refuses(503, "store_away"),
        streams(event("1.2.1", "workload.started", workload="w1")),
    ]
    seen = []
    async with client:
        async for one in client.events(after="1.0.9"):
            seen.append(one.id)
            if len(seen) == 2:
                break
    assert seen == ["1.1.1", "1.2.1"]
    resumed = [headers["Last-Event-ID"] for _, _, headers, _ in service.requests]
    assert resumed == ["1.0.9", "1.1.1", "1.1.1"]


async def test_waiting_ends_with_the_workload(service, client):
    over = asyncio.Event()

    async def answer(request):
        if request.path.endswith("/events"):
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b": connected\n\n")
            over.set()
            await response.write(event("1.1.1", "workload.finished", workload="w2"))
            await response.write(event("1.1.2", "workload.finished", workload="w1"))
            await asyncio.sleep(30)
            return response
        looks = sum(path.endswith("/w1") for _, path, _, _ in service.requests)
        return web.json_response(FINISHED if over.is_set() and looks > 1 else WORKLOAD)

    service.part = [answer]
    async with client:
        async with asyncio.timeout(5):  # below the time at which it would look by itself
            done = await client.wait("w1")
    assert done.result is Result.PASSED
    assert done.passed


async def test_a_finished_workload_is_not_waited_for(service, client):
    async def answer(request):
        if request.path.endswith("/events"):
            return await streams(b": connected\n\n")(request)
        return web.json_response(FINISHED)

    service.part = [answer]
    async with client:
        assert (await client.wait("w1")).passed


async def test_the_blocking_client_has_the_same_results(service):
    service.part = [
        says({"projects": [{"name": "web", "max_boxes": 4}]}),
        log_part(b"one\ntwo\n", size=8),
        streams(event("1.1.1", "workload.queued", workload="w1")),
    ]

    def script():
        with BlockingClient(service.url, "t", patience=0) as client:
            [project] = client.projects()
            log = b"".join(client.follow_log("w1-1"))
            return project, log, next(client.events())

    project, log, first = await asyncio.to_thread(script)
    assert (project.name, project.settings) == ("web", {"max_boxes": 4})
    assert log == b"one\ntwo\n"
    assert first.type == "workload.queued"
