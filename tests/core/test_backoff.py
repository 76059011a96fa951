"""Pauses that double, between retries and between looks."""

import random

import pytest

from boxsched.backoff import Backoff, doubling, repeat
from boxsched.worker.remote.connecting import ConnectionLoop
from boxsched.worker.remote.pace import Pace


def test_a_pause_doubles_up_to_the_longest() -> None:
    backoff = Backoff(0.1, 1.0)
    assert [backoff.next() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_without_a_longest_pause_it_keeps_doubling() -> None:
    backoff = Backoff(1.0)
    assert [backoff.next() for _ in range(12)][-1] == 2.0**11


def test_after_a_success_it_starts_again() -> None:
    backoff = Backoff(0.1, 5.0)
    for _ in range(9):
        backoff.next()
    backoff.reset()
    assert backoff.next() == 0.1


def test_the_pauses_reach_the_longest_and_then_end() -> None:
    assert list(doubling(1.0, 4.0)) == [1.0, 2.0, 4.0]
    assert list(doubling(1.0, 3.9)) == [1.0, 2.0]


async def test_a_call_is_repeated_until_it_succeeds() -> None:
    calls: list[str] = []

    async def away_twice(what: str) -> int:
        calls.append(what)
        if len(calls) < 3:
            raise ConnectionError
        return 7

    backoff = Backoff(0.0)
    assert await repeat(away_twice, "it", backoff, on=ConnectionError) == 7
    assert calls == ["it"] * 3


async def test_another_error_is_raised_at_once() -> None:
    calls: list[str] = []

    async def wrong(what: str) -> None:
        calls.append(what)
        raise ValueError(what)

    with pytest.raises(ValueError, match="it"):
        await repeat(wrong, "it", Backoff(0.0), on=ConnectionError)
    assert calls == ["it"]


def test_many_workers_spread_over_the_whole_pause() -> None:
    chance = random.Random(1)
    waits: list[list[float]] = [[] for _ in range(9)]
    for _ in range(500):
        loop = ConnectionLoop(None, None, chance=chance, pace=Pace())
        for each in waits:
            each.append(loop._tries_again_in())
    bounds = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]
    for each, bound in zip(waits, bounds, strict=True):
        assert max(each) <= bound
        assert max(each) > 0.9 * bound
        assert min(each) < 0.1 * bound
