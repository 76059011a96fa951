"""The client with services that answer, refuse, and go away."""

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web
from yarl import URL

from boxsched import errors
from boxsched.client import BlockingClient, Client, Unreachable
from boxsched.client.http import Patience
from boxsched.client.refusals import refusal
from boxsched.states import Result, State

WORKLOAD = {
    "id": "w1", "project": "web", "number": 1, "kind": "build", "branch": "main", "tag": None,
    "server": None, "commit": None, "message": None, "author": None, "state": "registered",
    "result": None, "priority": 50, "created_at": "2026-01-02T03:04:05.000006Z",
    "queued_at": None, "started_at": None, "finished_at": None, "jobs": [],
    "a_field_of_a_later_version": [1, 2],
}  # fmt: skip
SOMEWHERE = URL("http://ci.example.org")
FINISHED = {
    **WORKLOAD,
    "state": "finished",
    "result": "passed",
    "finished_at": "2026-01-02T03:04:06Z",
}


def says(value, status=200, headers=None):
    async def answer(request):
        return web.json_response(value, status=status, headers=headers)

    return answer


def refuses(status, code, message="no", **more):
    return says({"error": {"code": code, "message": message, **more}}, status)


async def breaks(request):
    request.transport.abort()
    return web.Response()


def streams(*chunks, then_break=False):
    async def answer(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if then_break:
            request.transport.abort()
        return response

    return answer


def log_part(*chunks, size, state="finished", attempt=1, latest=1):
    """An answer to a reader of a log, with the headers that say which part it is."""

    async def answer(request):
        response = web.StreamResponse()
        response.headers["Boxsched-Job-State"] = state
        response.headers["Boxsched-Attempt"] = str(attempt)
        response.headers["Boxsched-Latest-Attempt"] = str(latest)
        response.headers["Boxsched-Log-Size"] = str(size)
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        return response

    return answer


def event(id_, type_, **data):
    return f"id: {id_}\nevent: {type_}\ndata: {json.dumps(data)}\n\n".encode()


@pytest.fixture
def client(service):
    return Client(service.url, "the-token", patience=5)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def test_a_submission_and_what_it_sends(service, client):
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


async def test_no_service_listens():
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


async def test_the_blocking_client(service):
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


# --- Tokens and nodes -------------------------------------------------------------------------

MADE = {
    "id": "token-1", "token": "bxs_secret", "role": "worker", "name": "",
    "created_at": "2026-01-02T03:04:05.000006Z", "expires_at": None,
}  # fmt: skip


async def test_a_token_is_requested_only_once(service, client):
    service.part = [says(MADE, 201)]
    async with client:
        made = await client.create_token("worker", expires_in_seconds=60)
        service.part = [breaks, says(MADE, 201)]
        with pytest.raises(Unreachable):  # it may have been created: a second would be one too many
            await client.create_token("worker")
    assert made.token == "bxs_secret"
    assert "bxs_secret" not in repr(made)
    method, where, headers, body = service.requests[0]
    assert (method, where) == ("POST", "/api/v1/tokens")
    assert "Idempotency-Key" not in headers
    assert json.loads(body) == {"role": "worker", "expires_in_seconds": 60}


async def test_tokens_and_nodes(service, client):
    token = {key: value for key, value in MADE.items() if key != "token"} | {"of_file": True}
    node = {
        "id": "1", "name": "a", "url": "http://a:1", "version": "1", "alive": True, "shards": [1],
        "me": True, "started_at": "2026-01-02T03:04:06Z",
    }  # fmt: skip
    service.part = [says({"tokens": [token]}), says({}, 204), says({"nodes": [node]})]
    async with client:
        [found] = await client.tokens()
        await client.revoke_token("a/b")
        [seen] = await client.nodes()
    assert (found.id, found.of_file) == ("token-1", True)
    assert service.requests[1][:2] == ("DELETE", "/api/v1/tokens/a%2Fb")
    assert (seen.name, seen.shards, seen.me) == ("a", (1,), True)


# --- Several nodes ----------------------------------------------------------------------------


async def test_when_a_node_does_not_answer_the_next_is_asked_and_kept(service):
    gone = f"http://127.0.0.1:{free_port()}"
    service.part = [says({"workers": []})]
    async with Client([gone, service.url], "t", patience=0) as client:
        assert await client.workers() == []
        assert await client.workers() == []
    assert len(service.requests) == 2


async def test_a_node_that_cannot_serve_leads_to_the_next(service):
    async def answer(request):
        if "second" in request.path:
            return await says({"workers": []})(request)
        return await refuses(503, "store_away", "this node is stopping")(request)

    service.part = [answer]
    urls = [f"{service.url}/first", f"{service.url}/second"]
    async with Client(urls, "t", patience=0) as client:
        assert await client.workers() == []
    assert [one[1] for one in service.requests] == [
        "/first/api/v1/workers",
        "/second/api/v1/workers",
    ]


async def test_an_unsent_request_may_go_to_another_node_even_without_a_key(service):
    gone = f"http://127.0.0.1:{free_port()}"
    service.part = [says(MADE, 201)]
    async with Client([gone, service.url], "t", patience=0) as client:
        assert (await client.create_token("worker")).id == "token-1"


async def test_when_no_node_answers_each_is_named(service):
    service.part = [refuses(503, "store_away", "the database is away")]
    gone = f"http://127.0.0.1:{free_port()}"
    async with Client([gone, service.url], "t", patience=0) as client:
        with pytest.raises(Unreachable) as raised:
            await client.workers()
    assert f"{gone}: nothing listens there; the database is away" in raised.value.message
    assert not raised.value.absent


async def test_events_continue_at_another_node(service):
    gone = f"http://127.0.0.1:{free_port()}"
    service.part = [streams(event("1.1.1", "workload.queued", workload="w1"))]
    async with Client([gone, service.url], "t", patience=0) as client:
        async for one in client.events():
            assert one.id == "1.1.1"
            break


async def test_waiting_needs_no_event_stream(service, monkeypatch):
    """A proxy may hold back a stream for ever."""
    monkeypatch.setattr("boxsched.client.asynchronous.WORKLOAD_LOOK_SECONDS", 0.01)

    async def answer(request):
        if request.path.endswith("/events"):
            await asyncio.Event().wait()
        looks = sum(path.endswith("/w1") for _, path, _, _ in service.requests)
        return web.json_response(FINISHED if looks > 2 else WORKLOAD)

    service.part = [answer]
    async with Client(service.url, "t", patience=0) as client, asyncio.timeout(20):
        assert (await client.wait("w1")).passed


async def test_on_trouble_is_called_for_each_failed_attempt(service):
    service.part = [refuses(503, "store_away", "the disk is full"), says({"workers": []})]
    told = []
    async with Client(service.url, "t", patience=5, on_trouble=told.append) as client:
        await client.workers()
    assert [one.message for one in told] == ["the disk is full"]


@pytest.mark.parametrize(("ahead", "learned"), [(-3_600, -3_600), (90, 90), (1, 0), (None, 0)])
async def test_the_services_clock_is_learned_from_its_answers(service, client, ahead, learned):
    at = datetime.now(UTC) + timedelta(seconds=ahead or 0)
    date = "at noon" if ahead is None else format_datetime(at, usegmt=True)
    service.part = [says({"workloads": [], "next_cursor": None}, headers={"Date": date})]
    async with client:
        await client.json("workloads")
    assert client.skew == pytest.approx(learned, abs=5 if learned else 0)
