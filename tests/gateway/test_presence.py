"""Heartbeats, ends of connections and look-ups, with a fake store."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, cast

import pytest
from aiohttp import WSCloseCode

from boxsched.errors import StoreAway
from boxsched.gateway.figures import Figures, Times
from boxsched.gateway.lookups import LookUps
from boxsched.gateway.presence import MAX_UNANSWERED_BEATS, Beats, Ends
from boxsched.model import WorkerId
from boxsched.protocol import wire
from boxsched.protocol.ghosts import Haunted, HeldAttempt, Lease
from boxsched.protocol.workers import WorkerConnection
from tests.gateway.fakes import AT_ONCE, ME
from tests.gateway.harness import PATIENCE_SECONDS, GatewayHarness


class BeatingLink:
    problem: str | None = None
    ghosts: tuple[HeldAttempt, ...] | None = None
    noted: tuple[Any, Any] | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, worker: int = 1, problem: str | None = None) -> None:
        self.connection = WorkerConnection(WorkerId(worker), 1)
        self.problem = problem
        self.acked: list[int] = []
        self.ends: list[object] = []
        self.told_to_end = 0
        self.ended: list[tuple[int, str]] = []

    def ack(self, number: int, *, end: object = ()) -> None:
        self.acked.append(number)
        self.ends.append(end)

    def drained(self) -> None:
        self.told_to_end += 1

    def end(self, code: WSCloseCode, reason: str) -> None:
        self.ended.append((code, reason))


class BeatStore:
    """Knows the connections in ``alive``."""

    def __init__(self, *alive: int) -> None:
        self.alive = {WorkerId(each) for each in alive}
        self.drained: set[WorkerId] = set()
        self.haunted: list[list[Haunted]] = []
        self.ends: dict[WorkerId, tuple[Lease, ...]] = {}
        self.asked: list[tuple[list[WorkerId], float, dict[WorkerId, str]]] = []
        self.away = 0
        self.wrote = asyncio.Event()

    async def beat(
        self, connections: Sequence[WorkerConnection], lost_after: float, problems: Any
    ) -> dict[WorkerId, bool]:
        if self.away:
            self.away -= 1
            raise StoreAway("away for the test")
        self.asked.append(([each.worker for each in connections], lost_after, problems))
        self.wrote.set()
        return {worker: worker in self.drained for worker in self.alive}

    async def note_ghosts(self, haunted: list[Haunted]) -> dict[WorkerId, tuple[Lease, ...]]:
        self.haunted.append(haunted)
        return self.ends


async def test_heartbeats_are_written_with_the_promise_and_the_problem() -> None:
    store = BeatStore(1, 2)
    beats = Beats(cast(Any, store), 1.0, lambda link: link is not gone, 77.0)
    links = [BeatingLink(1), BeatingLink(2, "disk full"), BeatingLink(3)]
    gone = BeatingLink(4)
    for number, link in enumerate((*links, gone, links[0]), 1):
        beats.add(link, number)
    await beats.write()
    assert store.asked == [([1, 2, 3], 77.0, {2: "disk full"})]
    assert [link.acked for link in (*links, gone)] == [[1, 5], [2], [], []]
    assert [link.ended for link in (*links, gone)] == [
        [],
        [],
        [(WSCloseCode.TRY_AGAIN_LATER, "not_its_connection")],
        [],
    ]
    await beats.write()
    assert len(store.asked) == 1, "nothing was left to write"


async def test_only_a_drained_worker_is_told_to_end() -> None:
    store = BeatStore(1, 2)
    store.drained = {WorkerId(2)}
    beats = Beats(cast(Any, store), 1.0, lambda link: True, 77.0)
    links = [BeatingLink(1), BeatingLink(2), BeatingLink(3)]
    for link in links:
        beats.add(link, 1)
    await beats.write()
    assert [link.told_to_end for link in links] == [0, 1, 0]


async def test_ghosts_and_notes_are_stored_and_the_worker_is_told_which_to_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store, ghost = BeatStore(1, 2, 3, 4), HeldAttempt(5, 1, 2, False, True)
    store.ends = {WorkerId(2): (ghost.lease,)}
    beats = Beats(cast(Any, store), 1.0, lambda link: True, 77.0)
    silent, haunted, noting, foreign = (BeatingLink(worker) for worker in (1, 2, 3, 9))
    links = (silent, haunted, noting, foreign)
    haunted.ghosts = foreign.ghosts = (ghost,)
    noting.ghosts, noting.notes = (), ("left a folder",)

    async def beat() -> list[list[Haunted]]:
        store.haunted.clear()
        for link in links:
            beats.add(link, 1)
        await beats.write()
        return store.haunted

    held = Haunted(haunted.connection, (ghost,))
    assert await beat() == [[held, Haunted(noting.connection, (), ("left a folder",))]]
    assert [link.ends for link in links] == [[()], [(ghost.lease,)], [()], []]
    assert (silent.noted, haunted.noted) == (None, ((ghost,), ()))
    assert caplog.text.count("worker 2 holds 1 ghosts") == 1
    assert await beat() == [[held]], "notes only when they change, ghosts always"
    assert caplog.text.count("ghosts") == 1
    haunted.ghosts, noting.notes = (), ()
    assert await beat() == [[Haunted(haunted.connection, ()), Haunted(noting.connection, ())]], (
        "also that there are none any more"
    )
    assert await beat() == []
    haunted.ghosts = (ghost,)
    assert await beat() == [[held]]
    assert caplog.text.count("worker 2 holds 1 ghosts") == 2, "it is news again"


async def test_what_a_heartbeat_says_is_stored_and_replaces_what_the_last_one_said(
    harness: GatewayHarness,
) -> None:
    worker = await harness.worker()
    ghost = HeldAttempt(5, 1, 2, True, True)
    number = itertools.count(1)

    async def stored(**said: Any) -> tuple[str | None, tuple[str, ...], list[tuple[int, int]]]:
        beat = wire.Beat(next(number), **said)
        await worker.say(beat)
        while (await worker.next(wire.Ack)).number != beat.number:
            pass
        (found,) = await harness.store.workers()
        ghosts = [(one.job, one.attempt) for one in await harness.store.ghosts()]
        return found.problem, found.notes, ghosts

    counts = wire.CacheCounts(hits=3, restored_bytes=100)
    said = {"problem": "disk full", "notes": ("left a folder",), "ghosts": (ghost,)}
    assert await stored(**said, cache=counts) == ("disk full", ("left a folder",), [(5, 1)])
    assert +harness.gateway.figures.cache == {"hits": 3, "restored_bytes": 100}
    assert await stored() == (None, ("left a folder",), [(5, 1)]), "it did not look at its folders"
    assert await stored(ghosts=()) == (None, (), [])
    assert +harness.gateway.figures.cache == {"hits": 3, "restored_bytes": 100}


async def test_a_limited_number_of_heartbeats_wait_for_their_answers() -> None:
    store, link = BeatStore(1), BeatingLink()
    beats = Beats(cast(Any, store), 1.0, lambda link: True, 60.0)
    for number in range(MAX_UNANSWERED_BEATS + 5):
        beats.add(link, number)
    await beats.write()
    assert link.acked == list(range(5, MAX_UNANSWERED_BEATS + 5))


async def test_heartbeats_are_still_written_after_the_store_was_away() -> None:
    store, link = BeatStore(1), BeatingLink()
    store.away = 2
    beats = Beats(cast(Any, store), 0.0, lambda link: True, 60.0)
    beats.add(link, 1)
    running = asyncio.create_task(beats.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await store.wrote.wait()
        store.wrote.clear()
        beats.add(link, 2)
        await store.wrote.wait()
    running.cancel()
    assert link.acked[:1] == [1]


async def test_ends_are_stored_once_and_again_after_the_store_was_away() -> None:
    told: list[list[WorkerConnection]] = []
    done = asyncio.Event()

    class Told:
        away = 2

        async def disconnect_workers(self, connections: list[WorkerConnection]) -> None:
            if self.away:
                self.away -= 1
                raise StoreAway("away for the test")
            told.append(connections)
            done.set()

    ends = Ends(cast(Any, Told()), AT_ONCE)
    await ends.write()  # nothing to report: the store is not called
    gone = [WorkerConnection(WorkerId(each), 3) for each in (1, 2)]
    for connection in gone:
        ends.add(connection)
    running = asyncio.create_task(ends.run())
    async with asyncio.timeout(PATIENCE_SECONDS):
        await done.wait()
        assert told == [gone]
        done.clear()
        ends.add(WorkerConnection(ME, 4))
        await done.wait()
    running.cancel()
    assert told == [gone, [WorkerConnection(ME, 4)]]


async def test_a_look_up_counts_the_time_of_jobs_that_are_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [100.0]
    monkeypatch.setattr("boxsched.gateway.lookups.time.monotonic", lambda: clock[0])

    class Job:
        def __init__(self, started: bool) -> None:
            self.started = started

    class Jobs:
        async def assignments(self, workers: list[WorkerId]) -> dict[WorkerId, list[Job]]:
            clock[0] += 3.0
            return {ME: [Job(True), Job(False), Job(False)]}

    class Receiver:
        def give(self, assignments: Sequence[Any], *, anyway: bool) -> bool:
            return False

    figures = Figures()
    ups = LookUps(cast(Any, Jobs()), {ME: Receiver()}, figures, Times())
    clock[0] = 200.0
    ups.look((ME,))
    clock[0] = 201.0
    ups.look((ME,))  # the first hint counts
    await ups._look_up()
    assert figures.level_seconds == pytest.approx(2 * 4.0)
    assert figures.look_ups == 1
