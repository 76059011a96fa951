"""Look-ups: a level that must be sent is sent, also after the store was away."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from boxsched.errors import StoreAway
from boxsched.gateway.figures import Figures, Times
from boxsched.gateway.lookups import LookUps
from boxsched.model import WorkerId
from boxsched.protocol import wire
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.shards import SHARD
from tests.gateway.harness import PATIENCE_SECONDS, GatewayHarness

ME, OTHER = WorkerId(1), WorkerId(2)


class Receiver:
    def __init__(self, *, news: bool = False) -> None:
        self.given: list[bool] = []
        self.news = news

    def give(self, assignments: Sequence[Assignment], *, anyway: bool) -> bool:
        self.given.append(anyway)
        return self.news


class Store:
    def __init__(self, away: int = 0) -> None:
        self.away = away
        self.asked: list[list[WorkerId]] = []

    async def assignments(self, workers: list[WorkerId]) -> Mapping[WorkerId, Any]:
        self.asked.append(workers)
        if self.away:
            self.away -= 1
            raise StoreAway("away for the test")
        return {}


def look_ups(store: Store, links: dict[WorkerId, Receiver]) -> LookUps:
    return LookUps(store, links, Figures(), Times(first_retry=0.0))  # type: ignore[arg-type]


async def test_of_two_requests_for_one_look_up_the_stronger_counts() -> None:
    for order in ((True, False), (False, True)):
        receiver = Receiver()
        ups = look_ups(Store(), {ME: receiver})
        for anyway in order:
            ups.look((ME,), anyway=anyway)
        await ups._look_up()
        assert receiver.given == [True]


async def test_a_failed_look_up_is_repeated_unchanged() -> None:
    receiver, other, store = Receiver(), Receiver(), Store(away=1)
    ups = look_ups(store, {ME: receiver, OTHER: other})
    ups.look((ME,), anyway=True)
    ups.look((OTHER,))
    await ups._look_up()
    assert receiver.given == []
    await ups._look_up()
    assert (receiver.given, other.given) == ([True], [False])
    assert store.asked == [[ME, OTHER]] * 2


async def test_news_of_one_worker_make_the_whole_look_up_news() -> None:
    ups = look_ups(Store(), {ME: Receiver(news=True), OTHER: Receiver()})
    looked = asyncio.create_task(ups.looked([ME, OTHER]))
    await asyncio.sleep(0)
    await ups._look_up()
    assert await looked is True


async def test_waiting_callers_learn_that_the_node_stops() -> None:
    """During the query, and for the next one."""
    store = Store()
    begun = asyncio.Event()

    async def assignments(workers: list[WorkerId]) -> Mapping[WorkerId, Any]:
        begun.set()
        await asyncio.Event().wait()
        return {}

    store.assignments = assignments  # type: ignore[method-assign]
    ups = look_ups(store, {ME: Receiver()})
    running = asyncio.create_task(ups.run())
    first = asyncio.create_task(ups.looked([ME]))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await begun.wait()
        second = asyncio.create_task(ups.looked([ME]))
        await asyncio.sleep(0)
        running.cancel()
        _, *answers = await asyncio.gather(running, first, second, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreAway, StoreAway]


async def test_a_workers_problem_comes_with_its_heartbeat_and_goes_with_the_next(
    harness: GatewayHarness,
) -> None:
    worker = await harness.worker()
    for problem in ("disk full", None):
        await worker.say(wire.Beat(9, problem))
        while (await worker.next(wire.Ack)).number != 9:
            pass
        (pulse,) = await harness.store.pulses(SHARD)
        assert pulse.problem == problem


async def test_look_ups_that_are_ended_during_a_query_end_as_cancelled() -> None:
    asked = asyncio.Event()

    class Hanging(Store):
        async def assignments(self, workers: list[WorkerId]) -> Mapping[WorkerId, Any]:
            asked.set()
            await asyncio.Event().wait()
            return {}

    ups = look_ups(Hanging(), {ME: Receiver()})
    running = asyncio.create_task(ups.run())
    waiting = asyncio.create_task(ups.looked((ME,)))
    async with asyncio.timeout(20):
        await asked.wait()
        running.cancel()
        await asyncio.wait((running, waiting))
    assert running.cancelled()
    assert isinstance(waiting.exception(), StoreAway)


async def test_only_workers_that_are_connected_here_are_looked_up() -> None:
    store = Store()
    ups = look_ups(store, {ME: Receiver()})
    async with asyncio.timeout(PATIENCE_SECONDS):
        for nobody in ([], [OTHER]):
            assert await ups.looked(nobody) is False, "there is nothing to wait for"
        looked = asyncio.create_task(ups.looked([OTHER, ME]))
        await asyncio.sleep(0)
        assert not looked.done()
        await ups._look_up()
        assert await looked is False
    assert store.asked == [[ME]]
