"""How sessions are reached: stored by the worker that runs them, shown while they run."""

import pytest

from boxsched.model import Kind, WorkloadId, job_id
from boxsched.store.records import SshPlace, WorkloadFilter
from boxsched.store.store import Store
from tests.contract.store_data import Leader, build, session

PLACE = SshPlace("worker.example.org", 40_022, "ssh-ed25519 AAAA")


async def running(leader: Leader) -> WorkloadId:
    id_ = (await leader.submit(session(await leader.project(), ssh_forwarding=True))).id
    await leader.queue(id_)
    await leader.start(id_, 0)
    return id_


async def shown(store: Store, id_: WorkloadId) -> SshPlace | None:
    one = await store.workload(id_)
    (listed,) = (await store.workloads(WorkloadFilter(kind=Kind.SSH))).workloads
    assert one is not None and one.ssh == listed.ssh
    return one.ssh


async def test_a_session_that_is_open_says_how_it_is_reached(leader: Leader) -> None:
    id_ = await running(leader)
    assert await shown(leader.store, id_) is None
    assert await leader.store.open_ssh_session(job_id(id_, 0), leader.batch, PLACE)
    assert await shown(leader.store, id_) == PLACE


async def test_it_may_be_reached_only_through_a_node(leader: Leader) -> None:
    id_ = await running(leader)
    place = SshPlace(None, None, PLACE.host_key)
    assert await leader.store.open_ssh_session(job_id(id_, 0), leader.batch, PLACE)
    assert await leader.store.open_ssh_session(job_id(id_, 0), leader.batch, place)
    assert await shown(leader.store, id_) == place


async def test_a_session_that_ended_cannot_be_reached(leader: Leader) -> None:
    id_ = await running(leader)
    await leader.store.open_ssh_session(job_id(id_, 0), leader.batch, PLACE)
    await leader.finish(id_, 0)
    assert await shown(leader.store, id_) is None
    assert await leader.store.ssh_worker(id_) is None


@pytest.mark.parametrize("old", [1, 1_000])
async def test_another_lease_opens_nothing(leader: Leader, old: int) -> None:
    id_ = await running(leader)
    assert not await leader.store.open_ssh_session(job_id(id_, 0), leader.batch + old, PLACE)
    assert await shown(leader.store, id_) is None


async def test_a_build_is_no_session(leader: Leader) -> None:
    id_ = (await leader.submit(build(await leader.project()))).id
    await leader.queue(id_)
    await leader.start(id_, 0)
    assert not await leader.store.open_ssh_session(job_id(id_, 0), leader.batch, PLACE)
    assert await leader.store.ssh_worker(id_) is None


async def test_the_worker_of_a_session_is_found(leader: Leader) -> None:
    id_ = await running(leader)
    assert await leader.store.ssh_worker(id_) is None
    await leader.store.open_ssh_session(job_id(id_, 0), leader.batch, PLACE)
    found = await leader.store.ssh_worker(id_)
    assert found is not None and found.is_connected
    assert (found.job, found.lease_token) == (job_id(id_, 0), leader.batch)
    assert found.worker == leader.boxes[0].worker and found.url is None


async def test_the_assignment_says_who_may_enter_and_whether_to_forward(leader: Leader) -> None:
    await running(leader)
    (one,) = await leader.assignments()
    assert one.kind is Kind.SSH and one.ssh_forwarding
    assert one.public_key == session(await leader.project()).public_key
