"""What the store keeps of ghosts, and what is left to decide about them."""

from boxsched.protocol import inbox
from boxsched.protocol.ghosts import Haunted, HeldAttempt
from boxsched.protocol.shards import SHARD
from boxsched.protocol.workers import WorkerConnection
from boxsched.store.store import Store
from tests.contract.store_data import worker

RUNS = HeldAttempt(7 << 10, 1, 5, False, True)
ENDED = HeldAttempt(8 << 10, 2, 6, False, False)


async def connected(store: Store, name: str = "w") -> WorkerConnection:
    return (await store.connect_worker(worker(name))).connection


async def note(store: Store, one: WorkerConnection, *held: HeldAttempt) -> object:
    return (await store.note_ghosts([Haunted(one, held)])).get(one.worker, ())


async def held(store: Store) -> list[HeldAttempt]:
    return [
        HeldAttempt(one.job, one.attempt, one.lease_token, one.build, one.running)
        for one in await store.ghosts()
    ]


async def test_what_a_worker_holds_is_kept_until_it_does_not_hold_it(store: Store) -> None:
    mine = await connected(store)
    assert await note(store, mine, RUNS, ENDED) == ()
    first = await store.ghosts()
    assert await held(store) == [RUNS, ENDED]
    assert {(one.worker, one.worker_name, one.connected) for one in first} == {
        (mine.worker, "w", True)
    }
    assert [one.job_state for one in first] == [None, None], "the store knows no such jobs"
    over = HeldAttempt(RUNS.job, 1, 5, False, False)
    await note(store, mine, over)
    (now,) = await store.ghosts()
    assert (now.id, now.since, now.running) == (first[0].id, first[0].since, False)
    await note(store, mine)
    assert await store.ghosts() == []


async def test_notes_are_shown_until_the_worker_has_none(store: Store) -> None:
    before, mine = await connected(store), await connected(store)
    await store.note_ghosts([Haunted(mine, (), ("a record in quarantine",))])
    await store.note_ghosts([Haunted(before, (), ("of an earlier connection",))])
    assert [one.notes for one in await store.workers()] == [("a record in quarantine",)]
    await store.note_ghosts([Haunted(mine, ())])
    assert [one.notes for one in await store.workers()] == [()]


async def test_an_earlier_connection_says_nothing_of_ghosts(store: Store) -> None:
    before = await connected(store)
    now = await connected(store)
    assert (now.worker, now.number) == (before.worker, 2)
    await note(store, now, RUNS)
    assert await note(store, before) == ()
    assert await held(store) == [RUNS]


async def test_ghosts_go_with_their_worker(store: Store) -> None:
    mine, other = await connected(store), await connected(store, "other")
    await store.note_ghosts([Haunted(mine, (RUNS,)), Haunted(other, (RUNS,))])
    await store.disconnect_workers([mine])
    assert [one.connected for one in await store.ghosts()] == [True, False]
    assert await store.forget_worker(mine)
    assert [one.worker for one in await store.ghosts()] == [other.worker]


async def test_a_persons_decision_is_told_to_the_worker_and_to_the_leader_once(
    store: Store,
) -> None:
    mine = await connected(store)
    await note(store, mine, RUNS, ENDED)
    ghost = (await store.ghosts())[0]
    assert await store.kill_ghost(ghost.id, "ann")
    assert not await store.kill_ghost(ghost.id, "bob")
    assert not await store.kill_ghost(4_711, "bob")
    assert (await store.ghosts())[0].killed_by == "ann"
    assert await note(store, mine, RUNS, ENDED) == (RUNS.lease,)
    found, killed = await commands(store)
    assert isinstance(found, inbox.Reports) and len(found.ghosts) == 2
    assert killed == inbox.GhostKilled(mine.worker, "w", RUNS.job, 1, 5, "ann")


async def commands(store: Store) -> list[inbox.Command]:
    return [inbox.read(one.kind, one.payload) for one in await store.inbox(SHARD, 99)]


async def test_the_leader_is_told_of_each_change_once(store: Store) -> None:
    """Two workers have the same attempt; one is killed, the other ends by itself."""
    mine, other = await connected(store), await connected(store, "other")
    both = [Haunted(mine, (RUNS, ENDED)), Haunted(other, (RUNS,))]
    for _ in range(3):
        await store.note_ghosts(both)
    first = next(one for one in await store.ghosts() if one.worker == mine.worker)
    assert first.lease_token == RUNS.lease_token and await store.kill_ghost(first.id, "ann")
    over = HeldAttempt(RUNS.job, 1, 5, False, False)
    for _ in range(2):
        await store.note_ghosts([Haunted(mine, (over, ENDED)), Haunted(other, (over,))])
    for _ in range(2):
        await store.note_ghosts([Haunted(mine, (ENDED,)), Haunted(other, ())])
    told = [
        (said.worker, one.move, one.name, one.lease_token, one.running, one.cause, one.by)
        for said in await commands(store)
        if isinstance(said, inbox.Reports)
        for one in said.ghosts
    ]
    me, it = mine.worker, other.worker
    assert told == [
        (me, "found", "w", 5, True, None, None),
        (me, "found", "w", 6, False, None, None),
        (it, "found", "other", 5, True, None, None),
        (it, "ended", "other", 5, False, None, None),
        (me, "gone", "w", 5, False, "killed", "ann"),
        (it, "gone", "other", 5, False, "ended", None),
    ]
