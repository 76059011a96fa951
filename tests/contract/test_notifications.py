"""The outbox: rows written in the engine's transaction, claims, outcomes and order, on both
databases."""

import asyncio

from boxsched.model import ProjectId, WorkloadId
from boxsched.protocol.batches import Notice
from boxsched.secrets.ring import KeyRing, new_key
from boxsched.secrets.vault import Vault, is_sealed
from boxsched.store.steps.notifications import (
    DEAD,
    DELIVERED,
    WAITING,
    Claimed,
    Settled,
    Target,
)
from boxsched.store.steps.secrets import OUTGOING, Seal
from boxsched.store.store import Store
from tests.contract.store_data import NOW, Leader, build, loaded

ABOVE_ALL = 1 << 62
STARTED, FINISHED = "workload.started", "workload.finished"


async def project(leader: Leader, *targets: Target) -> WorkloadId:
    """Store a workload of a project with these targets."""
    made, _ = await leader.store.put_project(
        "web", '{"repository": "https://h/a/b"}', None, targets=targets
    )
    return (await leader.submit(build(made))).id


def hook(host: str = "h:443", *events: str, **changes: str) -> Target:
    url = f"https://{host}/"
    return Target(changes.get("name", f"hook.{host}"), None, url, host, events or (FINISHED,))


async def notify(leader: Leader, *notices: tuple[WorkloadId, str]) -> None:
    await leader.commit(notices=tuple(Notice(id_, event, NOW) for id_, event in notices))


async def claim(
    store: Store, room: int = 10, now: float = NOW, *, host: str = "h:443"
) -> list[Claimed]:
    return await store.settle_and_claim((), [(host, room)], now, now + 30.0)


async def settle(store: Store, *settled: Settled) -> None:
    await store.settle_and_claim(settled, (), NOW, NOW)


async def test_a_batch_writes_a_row_for_each_interested_target(leader: Leader) -> None:
    workload = await project(leader, hook("h:443"), hook("i:443", STARTED, FINISHED))
    await notify(leader, (workload, STARTED), (workload, FINISHED), (workload, "workload.queued"))
    rows = await leader.store.notifications(None, ABOVE_ALL, 100)
    assert {(row.host, row.event, row.state) for row in rows} == {
        ("h:443", FINISHED, WAITING),
        ("i:443", STARTED, WAITING),
        ("i:443", FINISHED, WAITING),
    }
    assert await leader.store.waiting_notifications(2) == 2
    assert await leader.store.due_hosts(NOW) == ["h:443", "i:443"]
    assert await leader.store.due_hosts(NOW - 1) == []


async def test_a_leader_learns_which_projects_have_targets(leader: Leader) -> None:
    await project(leader, hook())
    other = await leader.project("other")
    state = (await loaded(leader.store)).state
    named = {one.name: one.id for one in state.projects}
    assert state.notifying == {named["web"]} and named["other"] == other.id


async def test_a_claim_belongs_to_one_node_until_it_ends(leader: Leader) -> None:
    workload = await project(leader, hook())
    await notify(leader, (workload, FINISHED))
    both = await asyncio.gather(claim(leader.store), claim(leader.store))
    assert sorted(map(len, both)) == [0, 1]
    [first] = both[0] or both[1]
    assert await claim(leader.store, now=NOW + 29) == []
    [second] = await claim(leader.store, now=NOW + 31)
    assert (second.id, second.attempts) == (first.id, 2)
    await settle(leader.store, Settled(first, DEAD, NOW, done_at=NOW))  # its claim has ended
    [row] = await leader.store.notifications(None, ABOVE_ALL, 10)
    assert row.state == WAITING
    await settle(leader.store, Settled(second, DELIVERED, NOW, status=200, done_at=NOW))
    [row] = await leader.store.notifications(DELIVERED, ABOVE_ALL, 10)
    assert (row.status, row.attempts) == (200, 2)


async def test_rows_of_a_workload_and_target_are_sent_in_order(leader: Leader) -> None:
    workload = await project(leader, hook("h:443", STARTED, FINISHED))
    await notify(leader, (workload, STARTED), (workload, FINISHED))
    [first] = await claim(leader.store)
    assert first.event == STARTED
    assert await claim(leader.store) == []
    await settle(leader.store, Settled(first, WAITING, NOW + 60, 1, 500, "it answered 500"))
    assert await leader.store.due_hosts(NOW + 59) == []  # later rows wait as long
    [again] = await claim(leader.store, now=NOW + 60)
    assert (again.id, again.failures) == (first.id, 1)
    await settle(leader.store, Settled(again, DELIVERED, NOW, done_at=NOW))
    [second] = await claim(leader.store, now=NOW + 61)
    assert second.event == FINISHED


async def test_a_claim_takes_no_more_rows_of_a_host_than_it_has_room_for(leader: Leader) -> None:
    workload = await project(leader, hook(), hook("h:443", name="hook.2"), hook("i:443"))
    await notify(leader, (workload, FINISHED))
    found = await leader.store.settle_and_claim((), [("h:443", 1), ("i:443", 5)], NOW, NOW + 30)
    assert sorted(one.host for one in found) == ["h:443", "i:443"]


async def test_a_failed_row_is_sent_again_and_old_ones_are_dropped(leader: Leader) -> None:
    store = leader.store
    workload = await project(leader, hook())
    await notify(leader, (workload, FINISHED))
    [one] = await claim(store)
    await settle(store, Settled(one, DEAD, NOW, 3, 404, "it answered 404", NOW))
    assert await store.drop_old_notifications(NOW + 1, NOW - 1, 10) == 0
    assert await store.resend_notification(one.id, NOW + 5)
    assert not await store.resend_notification(one.id + 1, NOW + 5)
    [again] = await claim(store, now=NOW + 5)
    assert (again.failures, again.since) == (0, NOW + 5)
    assert await store.resend_notification(one.id, NOW + 6)  # a row that is being sent continues
    assert await claim(store, now=NOW + 6) == []
    await settle(store, Settled(again, DELIVERED, NOW, done_at=NOW))
    assert await store.drop_old_notifications(NOW + 1, NOW - 9, 10) == 1
    assert await store.notifications(None, ABOVE_ALL, 10) == []


async def test_a_secret_stays_until_it_is_replaced_and_is_sealed_again(leader: Leader) -> None:
    store = leader.store
    vault = Vault(KeyRing.of(new_key(), "a test"))

    def target(seal: Seal | str | None) -> Target:
        return Target("hook.1", None, "https://h/", "h:443", (FINISHED,), seal)

    async def stored() -> list[str]:
        found = await store.sealed_texts(OUTGOING, (ProjectId(0), ""), "nothing", 10)
        return [one.text for one in found]

    def seal(owner: int, version: int) -> str:
        return vault.seal(f"project/{owner}", "hook.1", version, "s3cret")

    await store.put_project("web", "{}", None, targets=[target(seal)])
    [text] = await stored()
    assert is_sealed(text)
    assert vault.opened("project/1", "hook.1", 1, text) == "s3cret"
    await store.put_project("web", "{}", None, targets=[target("kept")])
    assert await stored() == [text]
    [one] = await store.sealed_texts(OUTGOING, (ProjectId(0), ""), "nothing", 10)
    assert await store.reseal([(one, "sealed:1:new:text")]) == 1
    assert await stored() == ["sealed:1:new:text"]
    await store.put_project("web", "{}", None, targets=[target(None)])
    assert await stored() == []
    await store.put_project("web", "{}", None, targets=[target(seal)])
    assert await store.delete_project("web")
    assert await stored() == []
