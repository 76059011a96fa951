"""Deliveries of code hosts are stored with their effects, once, on both databases."""

import asyncio
import json

import attrs

from boxsched.model import Kind, WorkloadId, lane_key
from boxsched.node.retention import DELIVERY_SECONDS, Retention
from boxsched.protocol import inbox
from boxsched.protocol.shards import Project
from boxsched.store.delivery_records import (
    Delivered,
    DeliveryResult,
    LaneEnd,
    NewDelivery,
    RepeatedDelivery,
)
from boxsched.store.records import NewWorkload, ProjectChanged
from boxsched.store.steps.secrets import WEBHOOK_SECRET
from boxsched.store.store import Store
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import NOW, Leader, build
from tests.engine.harness import HeldClock

ABOVE_ALL = 1 << 62
CREATED, CANCELED = DeliveryResult.CREATED, DeliveryResult.CANCELED
DUPLICATE, IGNORED = DeliveryResult.DUPLICATE, DeliveryResult.IGNORED


def push(project: Project, body: str, *builds: NewWorkload, **changes: object) -> NewDelivery:
    new = NewDelivery(
        project=project.id,
        project_version=project.version,
        provider="github",
        event="push",
        received_at=NOW,
        delivery_id=f"id of {body}",
        body_sha256=body,
        builds=builds or (build(project),),
    )
    return attrs.evolve(new, **changes)  # type: ignore[arg-type]


def gone(project: Project, body: str, branch: str = "main") -> NewDelivery:
    lane = lane_key(Kind.BUILD, project.id, branch, None, None)
    assert lane is not None
    return attrs.evolve(push(project, body), builds=(), ends=(LaneEnd(lane, "its deletion"),))


def ignored(project: Project, body: str) -> NewDelivery:
    return attrs.evolve(push(project, body), builds=(), reason="a ping")


async def deliver(store: Store, *group: NewDelivery) -> list[Delivered]:
    outcomes = await store.deliver(group)
    found = [one for one in outcomes if isinstance(one, Delivered)]
    assert len(found) == len(group), outcomes
    return found


async def commands(leader: Leader) -> list[tuple[str, list[object]]]:
    found = [(one.kind, json.loads(one.payload)) for one in await leader.store.inbox(1, 100)]
    return [(kind, said) for kind, said in found if kind in ("submit", "stop")]


async def listed(store: Store) -> list[tuple[DeliveryResult, tuple[WorkloadId, ...]]]:
    found = await store.deliveries(None, None, ABOVE_ALL, 100)
    return [(one.result, one.workloads) for one in found]


async def test_a_delivery_its_build_and_its_command_are_stored_together(leader: Leader) -> None:
    project = await leader.project()
    [done] = await deliver(leader.store, push(project, "a"))
    (id_,) = done.workloads
    stored = await leader.store.workload(id_)
    assert done.result is CREATED
    assert stored is not None
    assert stored.number == 1
    assert [(kind, said[0]) for kind, said in await commands(leader)] == [("submit", id_)]
    [row] = await leader.store.deliveries(None, None, ABOVE_ALL, 10)
    assert (row.provider, row.event, row.project) == ("github", "push", project.name)
    assert (row.result, row.workloads, row.received_at) == (CREATED, (id_,), NOW)


async def test_data_from_a_code_host_is_kept_with_the_build(leader: Leader) -> None:
    project = await leader.project()
    new = build(
        project,
        from_fork=True,
        compare_url="https://h/compare",
        event_at=NOW - 9,
        target_branch="stable",
    )
    [done] = await deliver(leader.store, push(project, "a", new))
    stored = await leader.store.workload(done.workloads[0])
    assert stored is not None
    assert (stored.from_fork, stored.target_branch) == (True, "stable")
    assert (stored.compare_url, stored.event_at) == ("https://h/compare", NOW - 9)


async def test_a_rebuild_of_a_change_request_keeps_its_target(leader: Leader) -> None:
    project = await leader.project()
    first = await leader.submit(build(project, target_branch="stable", from_fork=True))
    again = await leader.submit(build(project, rebuild_of=first.id))
    stored = await leader.store.workload(again.id)
    assert stored is not None
    assert (stored.from_fork, stored.target_branch) == (True, "stable")


async def test_the_same_body_is_a_duplicate_only_in_its_project(leader: Leader) -> None:
    web, api = await leader.project(), await leader.project("api")
    [first] = await deliver(leader.store, push(web, "a"))
    [again] = await deliver(leader.store, push(web, "a", delivery_id="another"))
    [other] = await deliver(leader.store, push(api, "a"))
    assert again == Delivered(DUPLICATE, first.workloads)
    assert other.result is CREATED
    assert await listed(leader.store) == [
        (CREATED, other.workloads),
        (DUPLICATE, first.workloads),
        (CREATED, first.workloads),
    ]


async def test_the_same_id_is_a_duplicate_whatever_the_body(leader: Leader) -> None:
    project = await leader.project()
    [first] = await deliver(leader.store, push(project, "a", delivery_id="d"))
    [again] = await deliver(leader.store, push(project, "b", delivery_id="d"))
    assert again == Delivered(DUPLICATE, first.workloads)


async def test_the_id_of_a_duplicate_is_not_stored(leader: Leader) -> None:
    """The signature does not cover the id: a repeated body could use up ids of later deliveries."""
    project = await leader.project()
    await deliver(leader.store, push(project, "a", delivery_id="first"))
    await deliver(leader.store, push(project, "a", delivery_id="later"))
    [later] = await deliver(leader.store, push(project, "b", delivery_id="later"))
    assert later.result is CREATED


async def test_duplicates_within_a_group_are_found(leader: Leader) -> None:
    project = await leader.project()
    one, two, three = await deliver(
        leader.store, push(project, "a"), push(project, "a"), push(project, "b")
    )
    assert (one.result, two.result, three.result) == (CREATED, DUPLICATE, CREATED)
    assert two.workloads == one.workloads != three.workloads


async def test_an_ignored_delivery_may_be_sent_again(leader: Leader) -> None:
    project = await leader.project()
    [first] = await deliver(leader.store, ignored(project, "a"))
    assert first == Delivered(IGNORED, (), "a ping")
    [again] = await deliver(leader.store, push(project, "a"))
    assert again.result is CREATED
    assert [result for result, _ in await listed(leader.store)] == [CREATED, IGNORED]


async def test_a_delivery_that_was_checked_against_older_settings_is_not_stored(
    leader: Leader,
) -> None:
    old = await leader.project()
    current, _ = await leader.store.put_project(old.name, "{}", None)
    outcomes = await leader.store.deliver([push(old, "a"), push(current, "b"), ignored(old, "c")])
    assert isinstance(outcomes[0], ProjectChanged)
    assert isinstance(outcomes[1], Delivered)
    assert isinstance(outcomes[2], ProjectChanged)
    assert len(await listed(leader.store)) == 1


async def test_unfinished_builds_of_a_branch_are_ended(leader: Leader) -> None:
    project = await leader.project()
    [first] = await deliver(leader.store, push(project, "a"))
    [second] = await deliver(leader.store, push(project, "b"))
    [other] = await deliver(leader.store, push(project, "c", build(project, "other")))
    tag = await leader.submit(build(project, None, tag="main"))
    [done] = await deliver(leader.store, gone(project, "d"))
    assert done == Delivered(CANCELED, (*first.workloads, *second.workloads))
    stops = [said for kind, said in await commands(leader) if kind == "stop"]
    assert stops == [[id_, "its deletion"] for id_ in done.workloads]
    assert not {*other.workloads, tag.id} & {*done.workloads}


async def test_a_finished_workload_is_not_stopped(leader: Leader) -> None:
    project = await leader.project()
    done = await leader.submit(build(project))
    await leader.queue(done.id)
    await leader.start(done.id, 0)
    await leader.finish(done.id)
    assert await deliver(leader.store, gone(project, "a")) == [Delivered(CANCELED, ())]


async def test_a_group_is_carried_out_in_order(leader: Leader) -> None:
    """A branch is pushed, deleted, and pushed again, all in one transaction."""
    project = await leader.project()
    first, end, second = await deliver(
        leader.store, push(project, "a"), gone(project, "b"), push(project, "c")
    )
    assert end == Delivered(CANCELED, first.workloads)
    assert [(kind, said[0]) for kind, said in await commands(leader)] == [
        ("submit", *first.workloads),
        ("submit", *second.workloads),
        ("stop", *first.workloads),
    ]


async def test_of_many_copies_at_once_one_is_carried_out(leader: Leader) -> None:
    """Each in its own transaction, as on several nodes."""
    project = await leader.project()
    group = [push(project, "a", delivery_id=f"{n}") for n in range(8)]
    outcomes = await asyncio.gather(*[leader.store.deliver([one]) for one in group])
    results = sorted(one.result for [one] in outcomes if isinstance(one, Delivered))
    assert results == sorted([CREATED] + [DUPLICATE] * 7)
    assert len({one.workloads for [one] in outcomes if isinstance(one, Delivered)}) == 1
    assert len(await commands(leader)) == 1


async def test_a_repetition_is_stored_without_body_and_details(leader: Leader) -> None:
    project = await leader.project()
    [first] = await deliver(leader.store, push(project, "a"))
    one = RepeatedDelivery(project.id, project.version, "github", NOW + 1, "a")
    found = await leader.store.repeat_deliveries(
        [one, attrs.evolve(one, body_sha256="b"), attrs.evolve(one, project_version=7), one]
    )
    again = Delivered(DUPLICATE, first.workloads)
    assert found == [again, None, None, again]
    assert [result for result, _ in await listed(leader.store)] == [DUPLICATE, DUPLICATE, CREATED]


async def test_a_list_shows_one_project_and_one_result(leader: Leader) -> None:
    web, api = await leader.project(), await leader.project("api")
    for body in "abcd":
        await deliver(leader.store, push(web, body), ignored(api, body), ignored(web, f"{body}!"))
    store = leader.store

    async def ids(*asked: object, before: int = ABOVE_ALL, limit: int = 100) -> list[str]:
        rows = await store.deliveries(*asked, before, limit)  # type: ignore[arg-type]
        assert [row.id for row in rows] == sorted((row.id for row in rows), reverse=True)
        return [f"{row.project} {row.result}" for row in rows]

    assert len(await ids(None, None)) == 12
    assert await ids(web.id, CREATED) == ["web created"] * 4
    assert await ids(None, IGNORED) == ["web ignored", "api ignored"] * 4
    assert await ids(web.id, None) == ["web ignored", "web created"] * 4
    assert await ids(web.id, None, limit=3) == ["web ignored", "web created", "web ignored"]
    [*_, last] = await store.deliveries(web.id, None, ABOVE_ALL, 3)
    assert await ids(web.id, None, before=last.id) == [
        "web created",
        *["web ignored", "web created"] * 2,
    ]


async def test_old_deliveries_are_deleted_and_their_bodies_are_accepted_again(
    leader: Leader,
) -> None:
    project = await leader.project()
    for body, at in (("a", NOW), ("b", NOW + 1), ("c", NOW + 2)):
        await deliver(leader.store, push(project, body, received_at=at))
    assert await leader.store.drop_old_deliveries(NOW + 2, 1) == 1
    assert await leader.store.drop_old_deliveries(NOW + 2, 10) == 1
    assert await leader.store.drop_old_deliveries(NOW + 2, 10) == 0
    again, known = await deliver(leader.store, push(project, "a"), push(project, "c"))
    assert (again.result, known.result) == (CREATED, DUPLICATE)


async def test_the_chore_deletes_deliveries_after_a_week(leader: Leader) -> None:
    project, clock = await leader.project(), HeldClock()
    week = DELIVERY_SECONDS
    for body, age in (("a", week + 1.0), ("b", week - 1.0)):
        await deliver(leader.store, push(project, body, received_at=clock.now() - age))
    chore = Retention(leader.store, clock, lambda: True)  # type: ignore[arg-type]
    assert [await chore.run_once() for _ in range(2)] == [1, 0]
    again, known = await deliver(leader.store, push(project, "a"), push(project, "b"))
    assert (again.result, known.result) == (CREATED, DUPLICATE)


async def test_the_former_secret_stays_for_a_day(leader: Leader) -> None:
    store = leader.store

    async def put(secret: str | None) -> Project:
        seal = None if secret is None else lambda project, version: secret
        made, _ = await store.put_project("web", "{}", None, {WEBHOOK_SECRET: seal})
        assert await store.project("web") == made
        return made

    first = await put("one")
    assert (first.webhook_secret_before, first.webhook_secret_until) == (None, None)
    second = await put("two")
    assert (second.webhook_secret, second.webhook_secret_before) == ("two", "one")
    assert second.webhook_secret_until is not None
    found = await store.webhook_secrets(["web", "nope"])
    assert {name: (one.now, one.before) for name, one in found.items()} == {"web": ("two", "one")}
    third = await put("three")
    assert (third.webhook_secret, third.webhook_secret_before) == ("three", "two")
    removed = await put(None)
    assert (removed.webhook_secret, removed.webhook_secret_before) == (None, None)
    assert removed.webhook_secret_until is None


async def test_deliveries_survive_a_restart(db: DatabaseUnderTest) -> None:
    leader = await Leader(await db.open()).lead()
    project = await leader.project()
    [first] = await deliver(leader.store, push(project, "a"))
    store = await db.reopen()
    assert await deliver(store, push(project, "a")) == [Delivered(DUPLICATE, first.workloads)]


def test_deliveries_write_the_stop_command() -> None:
    kind, payload = inbox.written(inbox.Stop(4, "its deletion"))
    assert (kind, json.loads(payload)) == ("stop", [4, "its deletion"])
