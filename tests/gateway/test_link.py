"""Messages of one worker, on a link without a socket and a store."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import msgspec
import pytest
from aiohttp import WSCloseCode

from boxsched.gateway.figures import Figures
from boxsched.gateway.link import Held, WorkerLink
from boxsched.model import JobId
from boxsched.protocol import inbox, wire
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.protocol.workers import Connected, WorkerConnection
from boxsched.store.records import SshPlace
from boxsched.worker.agent.spool import most_bytes
from tests.contract.store_data import NOW
from tests.gateway.fakes import AT_ONCE, ME, TOKEN, FakeSocket

KEY = "ssh-ed25519 AAAA"


class FakeNodeSide:
    """A node's side of a link, without a store; ``calls`` in order."""

    log_limit = 1 << 20
    times = AT_ONCE

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.figures = Figures()

    async def looked(self, workers: Any) -> bool:
        self.calls.append("looked")
        return False

    async def settle(self) -> None:
        self.calls.append("settle")

    async def report(self, shard: int, reports: inbox.Reports) -> None:
        self.calls.append((shard, reports))

    async def append_log(self, chunks: Sequence[Any]) -> None:
        self.calls.append(list(chunks))

    async def fix_commit(self, job: JobId, token: int, commit: str) -> str | None:
        self.calls.append((job, token, commit))
        return None if token == 8 else commit

    async def open_session(self, job: JobId, token: int, place: SshPlace) -> bool:
        self.calls.append((job, token, place))
        return token != 8


def link_of(side: FakeNodeSide, **says: Any) -> WorkerLink:
    """A worker's link, which holds jobs 1 (token 7) and 2 (token 8)."""
    hello = wire.Hello(wire.VERSION, "own", "w", ("default",), "", "", **says)
    connected = Connected(WorkerConnection(ME, 1), 3, ())
    link = WorkerLink(cast(Any, FakeSocket()), connected, cast(Any, side), hello, TOKEN.id)
    link._held = {JobId(1): Held(7, 1, False), JobId(2): Held(8, 1, False)}
    return link


def acks_of(link: WorkerLink) -> list[Any]:
    return list(map(wire.from_node.decode, link._sending._take()))


async def test_only_reports_of_running_jobs_in_a_group_are_stored() -> None:
    side = FakeNodeSide()
    link = link_of(side)
    good, old = inbox.JobStarted(1, 7, NOW), inbox.JobStarted(2, 7, NOW)
    await link._store_reports([wire.Said(1, (good,)), wire.Said(2, (old, good))])
    assert side.calls == ["looked", "settle", (3, inbox.Reports(ME, (good, good)))]
    assert acks_of(link) == [wire.Ack(1), wire.Ack(2, ((2, 7),))]
    assert (side.figures.reports, side.figures.stale_reports) == (2, 1)
    side.calls.clear()
    await link._store_reports([wire.Said(3, (good,))])
    assert side.calls == [(3, inbox.Reports(ME, (good,)))], "nothing is looked up for what it holds"
    side.calls.clear()
    await link._store_reports([wire.Said(4, (old,))])
    assert side.calls == ["looked", "settle"], "nothing goes into the inbox"


async def test_only_output_of_running_jobs_in_a_group_is_stored() -> None:
    side = FakeNodeSide()
    link = link_of(side)
    good, old = wire.Chunk(1, 1, 5, b"good"), wire.Chunk(2, 2, 5, b"old")
    beyond = wire.Chunk(1, 1, most_bytes(side.log_limit), b"beyond")
    await link._store_output([wire.Logged(1, (good, old)), wire.Logged(2, (beyond,))])
    assert side.calls == ["looked", "settle", [(1, 1, 5, b"good")]]
    assert acks_of(link) == [wire.Ack(1), wire.Ack(2)]
    side.calls.clear()
    await link._store_output([wire.Logged(3, (beyond,))])
    assert side.calls == [], "nothing is written"
    assert acks_of(link) == [wire.Ack(3)]


async def test_only_commits_of_running_jobs_in_a_group_are_stored() -> None:
    side = FakeNodeSide()
    link = link_of(side)
    found = [
        wire.Found(1, 1, 7, "a" * 40),
        wire.Found(2, 2, 8, "b" * 40),
        wire.Found(3, 1, 6, "c" * 40),
    ]
    await link._store_found(found)
    assert side.calls == ["looked", (1, 7, "a" * 40), (2, 8, "b" * 40), "settle"]
    assert acks_of(link) == [
        wire.Ack(1, (), "a" * 40),
        wire.Ack(2, ((2, 8),), None),
        wire.Ack(3, ((1, 6),), None),
    ]


async def test_only_sessions_of_running_jobs_in_a_group_are_opened() -> None:
    side = FakeNodeSide()
    link = link_of(side)
    direct, through = SshPlace("192.0.2.7", 2222, KEY), SshPlace(None, None, KEY)
    opened = [
        wire.Opened(1, 1, 7, "192.0.2.7", 2222, KEY),
        wire.Opened(2, 2, 8, None, None, KEY),
        wire.Opened(3, 1, 6, None, None, KEY),
    ]
    await link._store_opened(opened)
    assert side.calls == ["looked", (1, 7, direct), (2, 8, through), "settle"]
    assert acks_of(link) == [wire.Ack(1), wire.Ack(2, ((2, 8),)), wire.Ack(3, ((1, 6),))]
    side.calls.clear()
    await link._store_opened(opened[:1])
    assert side.calls == [(1, 7, direct)], "nothing is looked up for what it holds"


async def test_what_a_worker_holds_without_a_lease_is_a_ghost() -> None:
    link = link_of(FakeNodeSide())
    own, old = HeldAttempt(1, 1, 7, True, True), HeldAttempt(2, 1, 7, False, True)
    link._note_ghosts(wire.Beat(1, ghosts=(own, old), notes=("a note",)))
    assert link.ghosts is None, "before the first look-up nobody knows what is its own"
    link.give((), anyway=False)
    link._held = {JobId(1): Held(7, 1, False), JobId(2): Held(8, 1, False)}
    link._note_ghosts(wire.Beat(1, ghosts=(own, old), notes=("a note",)))
    assert (link.ghosts, link.notes) == ((old,), ("a note",))
    link._note_ghosts(wire.Beat(1, ghosts=None))
    assert (link.ghosts, link.notes) == ((old,), ("a note",)), (
        "an older worker, or one that did not look"
    )
    link._note_ghosts(wire.Beat(1, ghosts=(own,)))
    assert (link.ghosts, link.notes) == ((), ())


async def test_what_a_workers_cache_has_done_is_counted_from_its_hello() -> None:
    side = FakeNodeSide()
    counts = wire.CacheCounts(hits=5, misses=2, restored_bytes=100)
    link = link_of(side, cache=counts)
    link._count_cache(counts)
    assert +side.figures.cache == {}
    link._count_cache(None)
    link._count_cache(msgspec.structs.replace(counts, hits=7, kept_bytes=9))
    link._count_cache(msgspec.structs.replace(counts, hits=8, misses=1, kept_bytes=9))
    assert +side.figures.cache == {"hits": 3, "kept_bytes": 9}, "a count never falls"


async def test_a_link_names_the_token_of_its_worker() -> None:
    assert link_of(FakeNodeSide()).token == "token-1"


async def test_a_level_is_sent_when_it_is_new_or_requested() -> None:
    side = FakeNodeSide()
    link = link_of(side)
    link._held = {}
    told_at = link._level_sent_at
    assert link.give((), anyway=False) is False
    assert (acks_of(link), link._level_sent_at, side.figures.levels) == ([], told_at, 0)
    assert link.give((), anyway=True) is False
    assert (acks_of(link), side.figures.levels) == ([wire.Level(())], 1)
    assert link._level_sent_at >= told_at
    link._held = {JobId(1): Held(7, 1, False)}
    assert link.give((), anyway=False) is True
    assert (acks_of(link), side.figures.levels, link._held) == ([wire.Level(())], 2, {})


async def test_the_first_reason_of_an_end_counts() -> None:
    side = FakeNodeSide()
    link = link_of(side)
    link.end(WSCloseCode.ABNORMAL_CLOSURE, "slow")
    link.end(WSCloseCode.OK, "replaced")
    await link.hang_up()
    line = cast(FakeSocket, link._line)
    assert (line.cuts, line.hung_up, side.figures.ended) == (1, [], {"slow": 1})
    other = link_of(side)
    await other.hang_up()
    assert cast(FakeSocket, other._line).hung_up == [(WSCloseCode.OK, "gone")]
    assert side.figures.ended == {"slow": 1}


async def test_a_connection_is_silent_only_while_it_is_read() -> None:
    link = link_of(FakeNodeSide())
    assert not link.silent_since(1e12)
    link._listens_since = 5.0
    assert [link.silent_since(at) for at in (4.0, 5.0, 6.0)] == [False, False, True]
    link._level_sent_at = 5.0
    assert [link.level_sent_before(at) for at in (4.0, 5.0, 6.0)] == [False, False, True]


async def test_an_internal_error_ends_the_connection_and_is_not_hidden() -> None:
    """Every error that is not the worker's or the network's reaches the caller of the link."""
    link = link_of(FakeNodeSide())
    cast(Any, link)._read = fails
    async with asyncio.timeout(20):
        with pytest.raises(ZeroDivisionError):
            await link.live()


async def fails() -> None:
    raise ZeroDivisionError
