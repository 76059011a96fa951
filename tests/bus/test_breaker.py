"""Deadlines that count only the server's silence, and a breaker that reports each change once."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator

import pytest

from boxsched.cluster import redis_connection
from boxsched.cluster.breaker import DEADLINE_SECONDS, PROBE_SECONDS, Breaker, deadline
from boxsched.cluster.redis_connection import NameCheck, RedisConnection


async def test_a_deadline_ends_a_silent_operation() -> None:
    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        async with deadline(0.1):
            await asyncio.Event().wait()
    assert time.monotonic() - begun >= 0.09


async def test_a_blocked_loop_is_not_the_servers_silence() -> None:
    async with deadline(0.25):
        asyncio.get_running_loop().call_soon(time.sleep, 0.4)
        await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)


async def test_a_deadline_leaves_a_cancellation_alone() -> None:
    async def work() -> None:
        async with deadline(10):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_a_request_has_the_servers_own_waiting_time_in_addition(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    @contextlib.asynccontextmanager
    async def over(seconds: float = DEADLINE_SECONDS) -> AsyncIterator[None]:
        asked.append(seconds)
        raise TimeoutError
        yield

    monkeypatch.setattr(redis_connection, "deadline", over)
    line = RedisConnection("redis://127.0.0.1:1")
    with pytest.raises(TimeoutError, match=r"no answer within 0\.25 s"):
        await line.ask(("PING",))
    with pytest.raises(TimeoutError, match=r"no answer within 2\.25 s"):
        await line.ask(("XREADGROUP",), blocking=2.0)
    with pytest.raises(TimeoutError, match=r"no connection within 0\.25 s"):
        await line.open()
    await line.close()
    assert asked == [0.25, 2.25, 0.25, 0.25]


def test_each_change_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    breaker = Breaker()
    assert breaker.is_open
    breaker.mend()  # the first time: nothing was wrong
    breaker.trip("it is cold")
    breaker.trip("it is colder")
    breaker.mend()
    breaker.trip("it is warm")
    breaker.rest()
    assert [record.getMessage() for record in caplog.records] == [
        "Redis away: it is cold; nodes poll",
        "Redis is back",
        "Redis away: it is warm; nodes poll",
    ]
    assert breaker.is_open and breaker.trips == 2
    assert PROBE_SECONDS / 2 < breaker.pause() < 2 * PROBE_SECONDS


def test_at_rest_nothing_is_sent_and_nothing_is_wrong(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    breaker = Breaker()
    breaker.mend()
    assert not breaker.is_open
    breaker.rest()
    assert breaker.is_open and breaker.trips == 0
    breaker.trip("it is cold")
    assert breaker.trips == 0, "it was open already"
    breaker.rest()
    breaker.mend()  # opened again: it is not "back"
    assert [record.getMessage() for record in caplog.records] == [
        "Redis away: it is cold; nodes poll"
    ]


def test_probes_are_spread_over_time(monkeypatch: pytest.MonkeyPatch) -> None:
    for chosen in (min, max):
        monkeypatch.setattr("random.uniform", lambda *ends, chosen=chosen: chosen(ends))
        assert Breaker().pause() == pytest.approx(PROBE_SECONDS * chosen((0.8, 1.2)))


async def test_a_name_server_that_does_not_answer_uses_one_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer, asked = threading.Event(), []

    def resolve(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        answer.wait()

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    check = NameCheck("redis.example")
    try:
        for _ in range(2):
            with pytest.raises(TimeoutError, match=r"redis\.example"):
                await check.passed()
        assert asked == ["redis.example"]
    finally:
        answer.set()
    await check.passed()
    await check.passed()
    assert asked == ["redis.example"] * 2


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 100 + ".", "\udcff"])
async def test_a_name_without_an_address_is_an_error_like_any_other(host: str) -> None:
    with pytest.raises((OSError, TimeoutError)):
        await NameCheck(host).passed()


@pytest.mark.parametrize("host", [None, "127.0.0.1", "::1"])
async def test_an_address_needs_no_lookup(
    host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("socket.getaddrinfo")
    await NameCheck(host).passed()


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        (OSError("no such name"), "no such name"),
        (UnicodeError("too long"), "'redis.example' is not a valid host name: too long"),
    ],
)
async def test_the_error_of_a_name_is_reported_and_the_name_is_looked_up_again(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str
) -> None:
    asked: list[str] = []

    def resolve(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise raised

    monkeypatch.setattr("socket.getaddrinfo", resolve)
    check = NameCheck("redis.example")
    for looks in (1, 2):
        async with asyncio.timeout(20):
            with pytest.raises(OSError, match=said):
                await answered(check)
        assert len(asked) == looks
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: asked.append("found"))
    async with asyncio.timeout(20):
        await answered(check)
    assert asked[-1] == "found"


async def answered(check: NameCheck) -> None:
    """Ask until the look-up has ended."""
    while True:
        with contextlib.suppress(TimeoutError):
            await check.passed()
            return
