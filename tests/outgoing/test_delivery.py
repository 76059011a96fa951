"""One try at a real receiver: what each answer means, and what a receiver cannot do to the
sender."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import attrs
import pytest

from boxsched.outgoing import delivery, statuses
from boxsched.outgoing.delivery import MAX_ANSWER_BYTES, MAX_ERROR_CHARACTERS, SendOutcome, send
from boxsched.outgoing.guard import AddressGuard
from boxsched.outgoing.requests import OutgoingRequest
from boxsched.outgoing.statuses.status import Shown, Status
from boxsched.repository import repository
from tests.outgoing.receiver import Receiver

NOW = 1_000_000.0


@pytest.fixture
async def guard() -> AsyncIterator[AddressGuard]:
    guard = AddressGuard(("127.0.0.1",))
    yield guard
    await guard.close()


async def answered(guard: AddressGuard, url: str) -> SendOutcome:
    async with asyncio.timeout(30):
        return await send(guard, OutgoingRequest(url, {"X-A": "b"}, b"body"), NOW)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
async def test_an_answer_of_success_is_a_delivery(guard: AddressGuard, status: int) -> None:
    async with Receiver.open(status) as receiver:
        receiver.headers = {"Retry-After": "60"}
        assert await answered(guard, f"{receiver.url}/x?y=1") == SendOutcome(status)
        (got,) = receiver.got
        assert (got.path, got.body, got.headers["X-A"]) == ("/x", b"body", "b")


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (300, ": redirects are not followed"),
        (399, ": redirects are not followed"),
        (400, ""),
        (404, ""),
        (503, ""),
    ],
)
async def test_another_answer_is_a_temporary_failure(
    guard: AddressGuard, status: int, more: str
) -> None:
    async with Receiver.open(status) as receiver:
        receiver.headers = {"Location": receiver.url}
        said = f"it answered {status}{more}"
        assert await answered(guard, receiver.url) == SendOutcome(status, said)
        receiver.headers["Retry-After"] = "60"
        assert await answered(guard, receiver.url) == SendOutcome(status, said, pause=60.0)
        assert len(receiver.got) == 2


async def test_a_state_that_gitlab_has_already_is_delivered(guard: AddressGuard) -> None:
    """A status may come twice; else the ones behind it would wait for a day."""
    status = Status(Shown.RUNNING, "a" * 40, "web", 7, "main", None, None)
    async with Receiver.open(400) as receiver:
        made = statuses.request("gitlab", receiver.url, repository("git@h:a/b"), status, "t")
        receiver.text = (
            '{"message":"Cannot transition status via :run from :running (Reason(s): '
            'Status cannot transition via \\"run\\")"}'
        )
        assert await send(guard, made, NOW) == SendOutcome(400)
        hook = attrs.evolve(made, done_if=None)
        assert (await send(guard, hook, NOW)).error == "it answered 400"
        receiver.text = '{"message":"400 (Bad request) \\"state\\" not given"}'
        assert (await send(guard, made, NOW)).error == "it answered 400"
        receiver.status, receiver.text = 403, "Cannot transition status"
        assert (await send(guard, made, NOW)).error == "it answered 403"


async def test_a_refused_address_is_a_permanent_failure(guard: AddressGuard) -> None:
    answer = await answered(guard, "http://127.0.0.2:1/")
    assert (answer.status, answer.lasting) == (None, True)
    assert str(answer.error).endswith("start every node with --allow-outgoing 127.0.0.2")


async def test_a_host_that_no_request_can_have_is_a_permanent_failure(guard: AddressGuard) -> None:
    """A project may have one since before they were refused."""
    answer = await answered(guard, "http://127.1:1/")
    assert answer == SendOutcome(None, "its host 127.1 is not valid", lasting=True)


async def test_a_missing_receiver_is_a_failure_in_one_line(guard: AddressGuard) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answer = await answered(guard, f"http://127.0.0.1:{unused.getsockname()[1]}/")
    assert (answer.status, answer.lasting, answer.pause) == (None, False, 0.0)
    assert "Cannot connect" in str(answer.error)


async def test_a_receiver_that_closes_the_connection_is_a_failure(guard: AddressGuard) -> None:
    async def hang_up(there: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        await there.readuntil(b"\r\n\r\n")
        back.close()

    answer = await answered(guard, await listening(hang_up))
    assert (answer.status, answer.lasting) == (None, False)
    assert answer.error


async def test_a_silent_receiver_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("guard", "delivery"):
        monkeypatch.setattr(f"boxsched.outgoing.{module}.TOTAL_SECONDS", 0.5)
    guard = AddressGuard(("127.0.0.1",))
    async with Receiver.open() as receiver:
        receiver.gate.clear()
        assert await answered(guard, receiver.url) == SendOutcome(None, "no answer within 0.5 s")
    await guard.close()


async def test_an_endless_answer_is_read_only_up_to_a_limit(guard: AddressGuard) -> None:
    hung_up = asyncio.Event()

    async def endless(there: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        await there.readuntil(b"\r\n\r\n")
        back.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n")
        try:
            while True:
                back.write(b"x" * 4096)
                await back.drain()
        except ConnectionError:
            hung_up.set()

    assert await answered(guard, await listening(endless)) == SendOutcome(200)
    async with asyncio.timeout(20):
        await hung_up.wait()


@pytest.mark.parametrize("size", [0, MAX_ANSWER_BYTES - 1])
async def test_a_connection_is_used_again_after_its_answer_was_read(
    guard: AddressGuard, size: int
) -> None:
    connections = 0

    async def twice(there: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while await there.readuntil(b"\r\n\r\n"):
            await there.readexactly(4)
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n"
            back.write(head.encode() + b"x" * size)

    url = await listening(twice)
    for _ in range(3):
        assert await answered(guard, url) == SendOutcome(200)
    assert connections == 1


def test_an_error_is_one_line_of_limited_length() -> None:
    assert delivery._one_line("a\n b\t\x1b[1m c\u202e") == "a b [1m c"
    assert len(delivery._one_line("x" * 1_000)) == MAX_ERROR_CHARACTERS


async def listening(answer: Callable[..., Any]) -> str:
    """The URL of a server that ends with the test's event loop."""
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
