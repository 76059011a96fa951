"""The client with tokens and with several nodes."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from aiohttp import web

from boxsched.client import Client, Unreachable
from tests.client.scripted_answers import (
    FINISHED,
    WORKLOAD,
    breaks,
    event,
    free_port,
    refuses,
    says,
    streams,
)


@pytest.fixture
def client(service):
    return Client(service.url, "the-token", patience=5)


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


async def test_tokens_and_nodes_are_listed(service, client):
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
    """A proxy may hold back a stream forever."""
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
