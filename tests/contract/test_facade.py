"""Every call of the store runs one procedure with all that it was given, and returns its result."""

import asyncio
import inspect
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from boxsched.errors import StoreAway
from boxsched.model import WorkloadId
from boxsched.store import store as module
from boxsched.store.records import IdempotencyKey
from boxsched.store.steps import reads, submission
from boxsched.store.store import JOBS_A_PART, Store

# These do more than one procedure; each has its own test.
_OTHERS = {
    "open", "close", "ping", "ready", "idempotency", "workloads_in_parts", "commit",
}  # fmt: skip
SIMPLE = sorted(
    name
    for name, function in inspect.getmembers(Store, inspect.iscoroutinefunction)
    if not name.startswith("_") and name not in _OTHERS
)


class RecordingDriver:
    """Records the procedures; each returns the next of ``answers``, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, str, Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = []
        self.events: list[str] = []
        self.is_near = True
        self.writes_fail = False
        self.servers: Any = "the servers"
        self.round_trips: Counter[str] = Counter()
        self.deciding, self.serving, self.reading = (
            Recording(self, use) for use in ("deciding", "serving", "reading")
        )

    async def open(self) -> None:
        self.events.append("open")

    async def close(self) -> None:
        self.events.append("close")


class Recording:
    def __init__(self, driver: RecordingDriver, use: str) -> None:
        self.driver, self.use = driver, use

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        assert kind in ("write", "load", "read", "snapshot")

        async def call(steps: Callable[..., Any], *given: Any, **named: Any) -> Any:
            self.driver.calls.append((self.use, kind, steps, given, named))
            answer = self.driver.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def store(*answers: Any) -> tuple[Any, RecordingDriver]:
    driver = RecordingDriver(*answers)
    return Store(driver), driver  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SIMPLE)
async def test_a_call_runs_its_procedure_and_returns_what_that_returns(name: str) -> None:
    answer = object()
    made, driver = store(answer)
    parameters = inspect.signature(getattr(Store, name)).parameters
    given = {each: object() for each in parameters if each != "self"}
    result = await getattr(made, name)(**given)
    ((_, _, steps, passed, named),) = driver.calls
    assert [*passed, *named.values()] == list(given.values()), "in this order"
    assert all(given[each] is value for each, value in named.items()), "under their own names"
    inspect.signature(steps).bind(*passed, **named)
    if inspect.signature(getattr(Store, name)).return_annotation in (None, "None"):
        assert result is None
    else:
        assert result is answer


async def test_a_store_opens_and_closes_its_driver() -> None:
    made, driver = store()
    await made.open()
    await made.close()
    assert driver.events == ["open", "close"]
    assert (made.servers, made.is_near) == ("the servers", True)
    assert made.round_trips is driver.round_trips


async def test_a_store_that_answers_is_ready() -> None:
    made, driver = store(None)
    await made.ready()
    assert [(call[1], call[2]) for call in driver.calls] == [("read", reads.ping)]


async def test_a_store_whose_writes_failed_is_ready_once_it_can_write() -> None:
    made, driver = store(None, None)
    driver.writes_fail = True
    await made.ready()
    assert [(call[1], call[2]) for call in driver.calls] == [
        ("read", reads.ping), ("write", reads.try_to_write),
    ]  # fmt: skip
    made, driver = store(None, StoreAway("disk full"))
    driver.writes_fail = True
    with pytest.raises(StoreAway, match="disk full"):
        await made.ready()


@pytest.mark.parametrize(
    ("slow", "said"), [("read", "no answer within"), ("write", "no write was done within")]
)
async def test_a_store_that_does_not_answer_in_time_is_away(
    monkeypatch: pytest.MonkeyPatch, slow: str, said: str
) -> None:
    monkeypatch.setattr(module, "PING_SECONDS", 0.01)
    made, driver = store(None)
    driver.writes_fail = True

    async def never(*arguments: Any) -> None:
        await asyncio.Event().wait()

    setattr(driver.serving, slow, never)
    with pytest.raises(StoreAway, match=f"{said} 0.01 s"):
        await made.ready()


KEY = IdempotencyKey("scope", "key", "a" * 64)


@pytest.mark.parametrize(
    ("answers", "result", "kinds"),
    [([None], None, ["read"]), (["first", "durable"], "durable", ["read", "write"])],
)
async def test_a_repeated_answer_is_durable(
    answers: list[Any], result: Any, kinds: list[str]
) -> None:
    """A first answer that was found may not be on the standby yet, so it is read by a write."""
    made, driver = store(*answers)
    assert await made.idempotency(KEY, living=True) == result
    assert [call[1] for call in driver.calls] == kinds
    for _, _, steps, passed, named in driver.calls:
        assert (steps, passed, named) == (submission.idempotency, (KEY,), {"living": True})


class Shown:
    def __init__(self, id_: int) -> None:
        self.id = id_


async def test_workloads_come_in_parts_without_gaps_or_repeats() -> None:
    made, driver = store([Shown(1), Shown(2)], [Shown(3)], [])
    ids = [WorkloadId(one) for one in (1, 2, 3, 4)]
    parts: AsyncIterator[list[Any]] = made.workloads_in_parts(ids)
    assert [[one.id for one in part] async for part in parts] == [[1, 2], [3]]
    assert [call[3] for call in driver.calls] == [
        ([1, 2, 3, 4], JOBS_A_PART), ([3, 4], JOBS_A_PART), ([4], JOBS_A_PART),
    ]  # fmt: skip
    made, driver = store([Shown(1)])
    assert [len(part) async for part in made.workloads_in_parts(ids[:1])] == [1]
    made, driver = store()
    assert [part async for part in made.workloads_in_parts([])] == []


@pytest.mark.parametrize(("near", "ahead"), [(True, 7), (False, 0)])
async def test_a_commit_reads_ahead_only_where_that_costs_no_time(near: bool, ahead: int) -> None:
    made, driver = store("committed")
    driver.is_near = near
    batch, worker = object(), object()
    assert await made.commit(batch, ahead=7, level_of=worker) == "committed"
    ((use, kind, _, passed, _),) = driver.calls
    assert (use, kind) == ("deciding", "write")
    assert passed[0] is batch
    assert passed[1:] == (ahead, worker if near else None)
