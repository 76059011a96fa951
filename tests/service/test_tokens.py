"""Tokens over the API: created once, listed without their texts, each role on its own routes."""

import asyncio
import base64
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import aiohttp
import attrs
import pytest
from yarl import URL

from activity_monitor import SESSION_COOKIE
from boxsched.api.auth import tokens
from boxsched.api.http.deadlines import WRITE_SECONDS
from boxsched.protocol import wire
from tests.contract.postgres_server import database, served
from tests.service.running_service import API, PATIENCE_SECONDS, Answer, RunningService
from tests.service.test_auth import sign_in

REVOKED_WITHIN_SECONDS = 1.0  # on all nodes


async def make(service: RunningService, role: str = "admin", **asked: object) -> dict[str, str]:
    answer = await service.call("POST", f"{API}/tokens", {"role": role, **asked})
    assert answer.status == 201, answer.body
    return answer.json


async def status(service: RunningService, token: str, path: str = f"{API}/boxes") -> int:
    return (await service.call("GET", path, token=token)).status


async def upgrade(service: RunningService, **headers: str) -> Answer:
    """Return the status of the worker's route for a WebSocket request."""
    key = base64.b64encode(os.urandom(16)).decode()
    asked = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
        **headers,
    }
    async with asyncio.timeout(PATIENCE_SECONDS):
        async with service.client.get(URL(service.url + wire.PATH), headers=asked) as response:
            body = b"" if response.status == 101 else await response.read()
            return Answer(response.status, response.headers, body)


async def test_a_token_is_shown_once(service: RunningService) -> None:
    made = await make(service, "worker", name="ci-4", expires_in_seconds=3_600)
    assert made.keys() == {
        "id", "token", "role", "name", "organization", "projects", "servers", "created_at",
        "expires_at", "last_used_at", "of_file", "max_workers", "bound",
    }  # fmt: skip
    assert (made["max_workers"], made["bound"]) == (1, True)
    assert tokens.looks_real(made["token"])
    assert (made["role"], made["name"]) == ("worker", "ci-4")
    listed = await service.call("GET", f"{API}/tokens")
    assert made["token"].encode() not in listed.body
    own, worker = listed.json["tokens"]
    assert worker == {k: v for k, v in made.items() if k != "token"}
    assert own["of_file"]
    assert (own["role"], own["name"]) == ("admin", f"admin-token of node {service.node.name}")
    folder = service.node.options.data
    kept = b"".join(path.read_bytes() for path in folder.glob("*sqlite*") if path.is_file())
    assert made["token"].encode() not in kept
    assert tokens.digest(made["token"]).encode() in kept


async def test_invalid_requests_are_refused(service: RunningService) -> None:
    for asked, field in (
        ({}, "role"),
        ({"role": "king"}, "role"),
        ({"role": "admin", "name": "a\nb"}, "name"),
        ({"role": "admin", "name": ""}, "name"),
        ({"role": "admin", "expires_in_seconds": 0}, "expires_in_seconds"),
        ({"role": "admin", "expires_in_seconds": 1e12}, "expires_in_seconds"),
        ({"role": "admin", "token": "mine"}, "token"),
    ):
        answer = await service.call("POST", f"{API}/tokens", asked)
        assert (answer.status, answer.error["field"]) == (422, field), asked
    keyed = await service.call(
        "POST", f"{API}/tokens", {"role": "admin"}, headers={"Idempotency-Key": "k"}
    )
    assert (keyed.status, keyed.error["field"]) == (422, "Idempotency-Key")


async def test_a_worker_cannot_sign_in(boxless_service: RunningService) -> None:
    worker = await make(boxless_service, "worker")
    answer = await boxless_service.call(
        "POST", "/sign-in", data={"token": worker["token"]}, token=None
    )
    assert answer.status == 403
    assert "Set-Cookie" not in answer.headers
    assert (
        b"This token has the role worker, which is for machines. Sign in with another one."
        in answer.body
    )


async def test_pages_of_other_sites_cannot_connect_as_a_worker(
    boxless_service: RunningService,
) -> None:
    worker = {"Authorization": f"Bearer {(await make(boxless_service, 'worker'))['token']}"}
    admin = {"Authorization": f"Bearer {boxless_service.token}"}
    cookie = {"Cookie": f"{SESSION_COOKIE}={await sign_in(boxless_service)}"}
    assert (await upgrade(boxless_service)).status == 401
    assert (await upgrade(boxless_service, Authorization="Bearer x")).status == 401
    refused = await upgrade(boxless_service, **admin)
    assert (refused.status, refused.error["code"]) == (403, "not_a_worker")
    assert (await upgrade(boxless_service, **cookie)).status == 403
    for origin in (
        "http://evil.example",
        "null",
        "",
        f"http://127.0.0.1:{boxless_service.port + 1}",
    ):
        assert (await upgrade(boxless_service, **worker, Origin=origin)).status == 403, origin
    assert (await upgrade(boxless_service, **worker)).status == 101
    assert (await upgrade(boxless_service, **worker, Origin=boxless_service.url)).status == 101


async def test_a_revoked_token_is_refused(service: RunningService) -> None:
    made = await make(service)
    cookie = {"Cookie": f"{SESSION_COOKIE}={await sign_in(service, made['token'])}"}
    assert await status(service, made["token"]) == 200
    answer = await service.call("DELETE", f"{API}/tokens/{made['id']}")
    assert (answer.status, answer.body) == (204, b"")
    assert await status(service, made["token"]) == 401
    assert (await service.call("GET", f"{API}/boxes", token=None, headers=cookie)).status == 401
    for id_ in (made["id"], "token-0", "x", "%00", "%ff", "x" * 300, "..", "%F0%9F%92%A5"):
        assert (await service.call("DELETE", f"{API}/tokens/{id_}")).status == 404, id_


async def test_a_token_in_place_of_its_id_is_not_echoed(service: RunningService) -> None:
    made = await make(service)
    answer = await service.call("DELETE", f"{API}/tokens/{made['token']}")
    assert answer.status == 404
    assert "ID" in answer.error["message"]
    assert made["token"] not in answer.body.decode()


async def test_an_expired_token_is_refused(service: RunningService) -> None:
    made = await make(service, expires_in_seconds=0.5)
    assert await status(service, made["token"]) == 200
    async with asyncio.timeout(PATIENCE_SECONDS):
        while await status(service, made["token"]) == 200:
            pass
    assert await status(service, made["token"]) == 401


async def test_long_answers_end_with_their_token(boxless_service: RunningService) -> None:
    admin, worker = await make(boxless_service), await make(boxless_service, "worker")
    headers = {"Authorization": f"Bearer {admin['token']}"}
    ours = {"Authorization": f"Bearer {boxless_service.token}"}
    async with (
        boxless_service.client.get(f"{boxless_service.url}{API}/events", headers=ours) as stays,
        boxless_service.client.get(f"{boxless_service.url}{API}/events", headers=headers) as stream,
        boxless_service.client.ws_connect(
            boxless_service.url + wire.PATH, headers={"Authorization": f"Bearer {worker['token']}"}
        ) as socket,
    ):
        assert (await stream.content.readline()).startswith(b"retry")
        for made in (admin, worker):
            await boxless_service.call("DELETE", f"{API}/tokens/{made['id']}")
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(PATIENCE_SECONDS):
            with contextlib.suppress(aiohttp.ClientError):
                while await stream.content.readline():
                    pass
            gone = await socket.receive()
        assert asyncio.get_running_loop().time() - began < 3  # 1 s on a busy machine
        assert gone.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
        await boxless_service.project("web")
        assert (await stays.content.readline()).startswith(b"retry")
        assert not stays.content.at_eof()


async def test_a_followed_log_ends_with_its_token(boxless_service: RunningService) -> None:
    """Cut, not ended: the reader has not seen the end, and asks again with a valid token."""
    await boxless_service.project("web")
    job = f"{(await boxless_service.build())['id']}-1"
    made = await make(boxless_service)

    def follow(token: str) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        headers = {"Authorization": f"Bearer {token}"}
        return boxless_service.client.get(
            f"{boxless_service.url}{API}/jobs/{job}/log?follow=1", headers=headers
        )

    async with follow(made["token"]) as ends, follow(boxless_service.token) as stays:
        assert (ends.status, stays.status) == (200, 200)
        await boxless_service.call("DELETE", f"{API}/tokens/{made['id']}")
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(aiohttp.ClientError):
                await ends.content.read()
        assert not stays.content.at_eof() and stays.content.exception() is None
        async with follow(made["token"]) as again:
            assert again.status == 401


async def test_a_stream_ends_when_its_token_expires(boxless_service: RunningService) -> None:
    made = await make(boxless_service, expires_in_seconds=0.5)
    headers = {"Authorization": f"Bearer {made['token']}"}
    async with boxless_service.client.get(
        f"{boxless_service.url}{API}/events", headers=headers
    ) as stream:
        assert stream.status == 200
        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(aiohttp.ClientError):
                await stream.read()


async def test_a_revoked_file_stays_revoked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    async with RunningService.open(data) as service:
        [own] = (await service.get("/tokens"))["tokens"]
        await service.call("DELETE", f"{API}/tokens/{own['id']}")
        assert await status(service, service.token) == 401
    async with RunningService.open(data) as service:
        assert await status(service, service.token) == 401
        assert "delete the file" in caplog.text
        assert service.token not in caplog.text
    (data / "admin-token").unlink()
    async with RunningService.open(data) as service:
        assert await status(service, service.token) == 200


# --- Several nodes ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    given = os.environ.get("BOXSCHED_TEST_DATABASE")
    if given:
        yield given
        return
    with served() as server:
        yield server.url("postgres")


@pytest.fixture
async def services(
    server: str, tmp_path: Path
) -> AsyncIterator[tuple[RunningService, RunningService]]:
    """Two nodes on one database, each with its own data folder."""
    with database(server) as url:
        async with (
            RunningService.open(tmp_path / "one", database=url) as one,
            RunningService.open(tmp_path / "two", database=url) as two,
        ):
            yield one, two


async def test_each_nodes_admin_token_is_valid_on_every_node(
    services: tuple[RunningService, RunningService],
) -> None:
    one, two = services
    assert one.token != two.token
    for service in services:
        for token in (one.token, two.token):
            assert await status(service, token) == 200
    listed = (await one.get("/tokens"))["tokens"]
    assert [token["of_file"] for token in listed] == [True, True]


async def test_an_idempotency_key_holds_on_every_node(
    services: tuple[RunningService, RunningService],
) -> None:
    one, two = services
    await one.project()
    asked = {"branch": "main"}
    first, again, other = [
        await service.call(
            "POST",
            f"{API}/projects/web/builds",
            asked,
            token=token,
            headers={"Idempotency-Key": "k"},
        )
        for service, token in ((one, one.token), (two, one.token), (two, two.token))
    ]
    assert [answer.status for answer in (first, again, other)] == [201, 201, 201]
    assert first.json["id"] == again.json["id"] != other.json["id"]


async def test_a_session_is_valid_on_every_node(
    services: tuple[RunningService, RunningService],
) -> None:
    one, two = services
    cookie = {"Cookie": f"{SESSION_COOKIE}={await sign_in(one)}"}
    for service in services:
        answer = await service.call("GET", f"{API}/boxes", token=None, headers=cookie)
        assert answer.status == 200
    gone = {**cookie, "Sec-Fetch-Site": "same-origin"}
    assert (await two.call("POST", "/sign-out", token=None, headers=gone)).status == 303
    for service in services:
        answer = await service.call("GET", f"{API}/boxes", token=None, headers=cookie)
        assert answer.status == 401


async def test_a_revoked_token_ends_on_every_node(
    services: tuple[RunningService, RunningService],
) -> None:
    one, two = services
    made = await make(one)
    loop = asyncio.get_running_loop()
    assert await status(two, made["token"]) == 200
    assert (await one.call("DELETE", f"{API}/tokens/{made['id']}")).status == 204
    revoked = loop.time()
    assert await status(one, made["token"]) == 401
    last_good = revoked
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            asked = loop.time()
            if await status(two, made["token"]) == 401:
                break
            last_good = asked
    assert last_good - revoked < REVOKED_WITHIN_SECONDS


def test_a_new_token_file_ends_the_former_token_whatever_its_name_was(tmp_path: Path) -> None:
    own = tokens.of_file(tmp_path, "one", 2.0)
    before = attrs.evolve(own, digest="0" * 64, name="DATA of node one")
    assert tokens.replaces(own, before)
    assert tokens.replaces(own, attrs.evolve(before, name=own.name))
    assert not tokens.replaces(own, own)
    assert not tokens.replaces(own, attrs.evolve(before, name="DATA of node two"))
    assert not tokens.replaces(own, attrs.evolve(before, id="token-1"))


async def test_the_kernel_limits_answers_to_requests_but_not_a_workers_connection(
    boxless_service: RunningService,
) -> None:
    """A worker's node has its own deadlines, and the worker may be frozen for longer."""

    def bounds() -> list[int]:
        raw = [
            one._wire.get_extra_info("socket") for one in boxless_service.runner.server.connections
        ]
        return [each.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) for each in raw]

    token = (await make(boxless_service, "worker"))["token"]
    assert bounds() == [WRITE_SECONDS * 1_000]
    path = f"{boxless_service.url}{wire.PATH}"
    async with boxless_service.client.ws_connect(
        path, headers={"Authorization": f"Bearer {token}"}
    ) as worker:
        hello = wire.Hello(wire.VERSION, "own w", "w", ("default",), "", "")
        await worker.send_bytes(wire.encode(hello))
        await worker.receive()
        assert 0 in bounds()
