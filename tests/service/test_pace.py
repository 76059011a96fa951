"""Heavy requests that are ready together: other requests are served between any two of them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from boxsched.api.messages import answers
from boxsched.api.submitting import new_workloads
from boxsched.pace import HEAVY_JOBS, LoopPace
from tests.service.running_service import RunningService, job


@contextlib.asynccontextmanager
async def rounds() -> AsyncIterator[Callable[[], int]]:
    """Counts the rounds of the event loop."""
    count = 0

    async def ticking() -> None:
        nonlocal count
        while True:
            count += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(ticking())
    try:
        yield lambda: count
    finally:
        task.cancel()


async def test_ready_requests_each_get_a_round_in_their_order() -> None:
    pace, done = LoopPace(), list[tuple[int, int]]()
    async with rounds() as now:

        async def heavy(n: int) -> None:
            await pace.step()
            done.append((now(), n))

        await asyncio.gather(*(heavy(n) for n in range(20)))
    assert [n for _, n in done] == list(range(20))
    assert len({round_ for round_, _ in done}) == 20


def noted(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, now: Callable[[], int]
) -> list[int]:
    """Record the rounds in which a function was called."""
    called: list[int] = []
    function = getattr(module, name)

    def noting(*arguments: Any) -> Any:
        called.append(now())
        return function(*arguments)

    monkeypatch.setattr(module, name, noting)
    return called


async def test_no_round_handles_two_large_submissions(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    await boxless_service.project()
    wide = [job(f"j{n}", "x" * 100) for n in range(HEAVY_JOBS * 2)]
    async with rounds() as now:
        made = noted(monkeypatch, new_workloads, "build", now)
        answered = noted(monkeypatch, answers, "registered", now)
        built = await asyncio.gather(
            *(boxless_service.build(branch=f"b{n}", jobs=wide) for n in range(15))
        )
        assert len(made) == len(set(made)) == 15
        assert len(answered) == len(set(answered)) == 15
        shown = noted(monkeypatch, answers, "workload", now)
        await asyncio.gather(*(boxless_service.look(one["id"]) for one in built))
        assert len(shown) == len(set(shown)) == 15


@pytest.mark.parametrize("count", [0, 1, 299, 300, 301, 600, 1_000])
async def test_a_list_written_in_parts_is_the_same_list(count: int) -> None:
    def shape(one: int) -> int:
        return one * 2

    encoded = await answers.encoded(iter(range(count)), shape, lambda one: 1, LoopPace())
    assert json.loads(encoded) == [n * 2 for n in range(count)]
