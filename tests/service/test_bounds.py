"""Nothing blocks the event loop for long, and no caller is refused because of another."""

import asyncio
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import pytest

from boxsched.api.http.large import LARGE_BYTES, LargeBodies
from boxsched.engine.books import Books
from boxsched.errors import Invalid, StoreAway
from boxsched.gather import Gather
from boxsched.model import WorkloadId
from boxsched.node.forecasts import Forecasts
from boxsched.node.group_commit import GROUP_BYTES_AT_MOST
from boxsched.node.loop_holds import TICK_SECONDS, WINDOW_SECONDS, LoopHolds
from boxsched.protocol.inbox import SubmitJob
from boxsched.protocol.shards import Organization
from boxsched.scheduling.prediction import Outlook
from boxsched.store.records import NewWorkload
from tests.service.running_service import API, RunningService, job, jobs

# --- Group commit ---------------------------------------------------------------------------


class Written:
    """Records the groups that were written; refuses negative values."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []

    async def __call__(self, group: Sequence[int]) -> list[int]:
        self.groups.append(list(group))
        await asyncio.sleep(0)
        if min(group) < 0:
            raise Invalid("negative")
        return [-one for one in group]


async def test_a_group_has_a_maximum_weight_or_is_one_member() -> None:
    written = Written()
    gather = Gather(written, at_most=4, weigh=lambda one: one, weight_at_most=10)
    answers = await asyncio.gather(*(gather.add(one) for one in (9, 1, 1, 50, 5, 5, 1, 1, 1, 1, 1)))
    assert answers == [-9, -1, -1, -50, -5, -5, -1, -1, -1, -1, -1]
    assert written.groups == [[9, 1], [1], [50], [5, 5], [1, 1, 1, 1], [1]]


async def test_no_member_is_refused_because_of_another() -> None:
    written = Written()
    gather = Gather(written, at_most=10)
    answers = await asyncio.gather(
        *(gather.add(one) for one in (1, 2, -3, 4)), return_exceptions=True
    )
    assert [answers[0], answers[1], answers[3]] == [-1, -2, -4]
    assert isinstance(answers[2], Invalid)
    assert written.groups == [[1, 2, -3, 4], [1], [2], [-3], [4]]


async def test_an_outage_fails_all_members() -> None:
    async def away(group: Sequence[int]) -> list[int]:
        raise StoreAway("away")

    gather = Gather(away, at_most=10)
    ends = await asyncio.gather(*(gather.add(one) for one in (1, 2)), return_exceptions=True)
    assert [type(end) for end in ends] == [StoreAway, StoreAway]


async def test_submissions_are_written_in_groups_of_a_maximum_size(
    boxless_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, sizes = type(boxless_service.node.store).submit, []

    async def noted(store: object, group: Sequence[NewWorkload]) -> object:
        sizes.append([new.size for new in group])
        return await submit(store, group)  # type: ignore[arg-type]

    monkeypatch.setattr(type(boxless_service.node.store), "submit", noted)
    await boxless_service.project()
    script = [job("test", *["x" * 100_000] * 4)]
    await asyncio.gather(*(boxless_service.build(jobs=script) for _ in range(12)))
    await asyncio.gather(*(boxless_service.build(jobs=jobs(1_000)) for _ in range(6)))
    assert all(len(group) == 1 or sum(group) <= GROUP_BYTES_AT_MOST for group in sizes)
    assert sum(map(len, sizes)) == 18


# --- Large bodies ---------------------------------------------------------------------------


class Sent:
    """A request, as far as the limits on bodies depend on it."""

    can_read_body = True

    def __init__(self, content_length: int | None) -> None:
        self.content_length = content_length


async def test_only_a_few_large_bodies_are_handled_at_a_time_but_any_number_of_small_ones() -> None:
    large, inside, go = LargeBodies(at_once=2), [0], asyncio.Event()

    async def one(length: int | None) -> None:
        async with large.turn(Sent(length)):  # type: ignore[arg-type]
            inside[0] += 1
            await go.wait()

    tasks = [asyncio.create_task(one(length)) for length in (LARGE_BYTES, None, LARGE_BYTES + 1)]
    tasks += [asyncio.create_task(one(LARGE_BYTES - 1)) for _ in range(20)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert inside == [22]
    go.set()
    await asyncio.gather(*tasks)
    assert inside == [23]


async def test_a_hundred_bodies_of_a_megabyte_are_all_accepted(
    boxless_service: RunningService,
) -> None:
    await boxless_service.project()
    body = msgspec.json.encode(
        {"branch": "main", "jobs": [job(f"j{n}", *["x" * 100_000] * 2) for n in range(5)]}
    )
    path = f"{API}/projects/web/builds"
    answers = await asyncio.gather(
        *(boxless_service.call("POST", path, data=body) for _ in range(100))
    )
    assert {answer.status for answer in answers} == {201}


# --- Work outside of the event loop -------------------------------------------------------------


class HeldForecasts:
    """Every forecast waits until ``go``; records the questions and the threads."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.go = threading.Event()
        self.begun = asyncio.Event()
        self.asked: list[set[WorkloadId]] = []
        self.threads: list[int] = []
        loop = asyncio.get_running_loop()
        ahead = Outlook.expected_starts

        def held(outlook: Outlook, ids: Iterable[WorkloadId]) -> dict[WorkloadId, float]:
            self.threads.append(threading.get_ident())
            self.asked.append(set(ids))
            loop.call_soon_threadsafe(self.begun.set)
            assert self.go.wait(20.0)
            return ahead(outlook, ids)

        monkeypatch.setattr(Outlook, "expected_starts", held)


async def queued_behind_others(service: RunningService, count: int) -> list[str]:
    """Submit builds that wait for the Boxes of the two that run."""
    await service.project("web", jobs=[job("long", "sleep 60")])
    for one in [await service.build(branch=branch) for branch in "ab"]:
        await service.until(one["id"], state="running")
    ids = [(await service.build(branch=f"c{n}"))["id"] for n in range(count)]
    await service.until(ids[-1], state="queued")
    return ids


async def test_a_forecast_runs_outside_of_the_event_loop(
    executing_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    forecasts = HeldForecasts(monkeypatch)
    forecasts.go.set()
    (last,) = await queued_behind_others(executing_service, 1)
    explained = await executing_service.get(f"/workloads/{last}/explanation")
    assert explained["expected_start"] is not None
    assert len(forecasts.threads) == 1
    assert threading.get_ident() not in forecasts.threads


async def test_all_requests_during_a_forecast_share_the_next_one(
    executing_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await queued_behind_others(executing_service, 5)
    forecasts = HeldForecasts(monkeypatch)
    count, all_asked = 0, asyncio.Event()
    start = Forecasts.start

    async def counted(asked: Forecasts, workload: WorkloadId) -> float | None:
        nonlocal count
        count += 1
        if count == 1 + 8 * len(ids):
            all_asked.set()
        return await start(asked, workload)

    monkeypatch.setattr(Forecasts, "start", counted)

    def ask(id_: str) -> asyncio.Task[Any]:
        return asyncio.create_task(executing_service.get(f"/workloads/{id_}/explanation"))

    first = ask(ids[0])
    await forecasts.begun.wait()
    others = [ask(id_) for id_ in ids * 8]
    await all_asked.wait()
    others.pop().cancel()
    forecasts.go.set()
    answers = await asyncio.gather(first, *others)
    starts = [answer["expected_start"] for answer in answers]
    assert None not in starts
    assert starts[1] < starts[4], "each its own"
    assert [len(asked) for asked in forecasts.asked] == [1, len(ids)]


async def test_a_failed_forecast_fails_for_all_callers_and_the_next_one_runs(
    executing_service: RunningService, monkeypatch: pytest.MonkeyPatch
) -> None:
    (last,) = await queued_behind_others(executing_service, 1)
    books, id_ = executing_service.node.books, WorkloadId(int(last[1:]))

    async def away() -> Books:
        raise StoreAway("away")

    forecasts = Forecasts(away, executing_service.node.clock)
    for outcome in await asyncio.gather(
        *(forecasts.start(id_) for _ in range(3)), return_exceptions=True
    ):
        assert isinstance(outcome, StoreAway)
    monkeypatch.setattr(forecasts, "_books", books)
    assert await forecasts.start(id_) is not None


def test_callers_share_one_forecast_up_to_a_number_of_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("boxsched.engine.books.SHARED_JOBS_AT_MOST", 100)
    books = Books(Organization(1, "default", "backfill", None, None))  # type: ignore[arg-type]
    for number in range(50):
        asked = tuple(SubmitJob(f"{number} {n}", "default", 60.0, 60.0) for n in range(10))
        kept, _ = books.shared(asked)
        assert books.shared(tuple(asked))[0] is kept
        assert sum(map(len, books._job_tuples)) <= 100


# --- How long the loop is blocked ---------------------------------------------------------------


def test_the_longest_hold_of_this_minute_and_the_last_is_reported() -> None:
    now = [0.0]
    holds = LoopHolds(lambda: now[0])
    for seconds, late, longest in (
        (0.0, 0.001, 0.001),
        (1.0, 0.5, 0.5),
        (1.0, 0.1, 0.5),
        (WINDOW_SECONDS, 0.2, 0.5),
        (WINDOW_SECONDS, 0.05, 0.2),
        (WINDOW_SECONDS, 0.01, 0.05),
        (5 * WINDOW_SECONDS, 0.02, 0.02),
    ):
        now[0] += seconds
        holds.note(late)
        assert holds.longest == longest


async def test_the_longest_hold_is_in_the_metrics(boxless_service: RunningService) -> None:
    boxless_service.node.holds.note(7.5 + TICK_SECONDS)
    text = (await boxless_service.call("GET", "/metrics", token=None)).body.decode()
    (line,) = [line for line in text.splitlines() if line.startswith("boxsched_loop_hold_seconds ")]
    assert float(line.split()[1]) == 7.5 + TICK_SECONDS
