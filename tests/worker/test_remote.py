"""An external worker: its level, its reports, and what it does when nodes leave and return."""

import asyncio
from pathlib import Path

import attrs
import pytest

from boxsched.model import Kind, WorkloadId
from boxsched.protocol import wire
from boxsched.states import Result
from boxsched.worker.agent.remains import _marked_processes
from boxsched.worker.supervisor.last_heartbeat import read_last_heartbeat
from tests.worker.fake_node import FakeNode
from tests.worker.harness import alive, assigned, at, eventually, job, pid_in
from tests.worker.nodes_and_workers import QUICK, NodesAndWorkers
from tests.worker.test_git import commit, git

WAIT = "echo ready; while :; do sleep 0.05; done"


def ended(node: FakeNode, number: int) -> Result:
    finished = node.store.finished(number)
    assert finished is not None
    return finished.result


# --- A connection ---------------------------------------------------------------------------


async def test_a_worker_connects_runs_and_reports(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    await node.want(assigned(1, "seq 30000"), assigned(2, "exit 3"))
    worker = cluster.worker(node, boxes=3, box_type="linux")
    await node.store.until(lambda: node.store.finished(1) and node.store.finished(2))
    assert (ended(node, 1), ended(node, 2)) == (Result.PASSED, Result.FAILED)
    assert node.store.log_when_finished[job(1)] == b"".join(b"%d\n" % i for i in range(1, 30_001))
    hello = node.hellos[0]
    assert (hello.version, hello.name) == (wire.VERSION, "builder")
    assert hello.box_types == ("linux",) * 3
    assert hello.boot == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert [str(each) for each in worker.first] == [node.url]
    await node.want()
    await eventually(lambda: not list((worker.data / "worker").glob("w*")))
    await worker.end()


@pytest.mark.parametrize("fixes_commits", [True, False])
async def test_a_node_says_which_commit_a_job_runs(
    cluster: NodesAndWorkers, tmp_path: Path, fixes_commits: bool
) -> None:
    """A node of an earlier version does not; then the job runs the commit that it found."""
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init")
    first, second = commit(repository, "first"), commit(repository, "second")
    node = await cluster.node(fixes_commits=fixes_commits)
    node.store.commits[WorkloadId(1)] = first
    await node.want(assigned(1, "git rev-parse HEAD", repository=str(repository)))
    cluster.worker(node)
    await node.store.until(lambda: node.store.finished(1))
    ran = first if fixes_commits else second
    assert node.store.log_of(job(1)) == f"{ran}\n".encode()


async def test_an_attempt_whose_lease_is_over_asks_for_its_commit(
    cluster: NodesAndWorkers, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init")
    commit(repository, "first")
    node = await cluster.node()
    node.store.stale.add((job(1), 1))
    await node.want(assigned(1, "echo unreached", repository=str(repository)))
    cluster.worker(node)
    await node.store.until(lambda: node.store.finished(1))
    assert ended(node, 1) is Result.STOPPED
    assert b"unreached" not in node.store.log_of(job(1))


async def test_only_the_newest_level_counts(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    cluster.worker(node, box_driver="none")
    await node.connected()
    node.acks_said = False  # so the first level is being handled until then
    await node.want(assigned(1))
    await node.until(lambda: any(isinstance(said, wire.Said) for said in node.heard))
    await node.want(assigned(2))
    await node.want(assigned(3))
    node.acks_said = True
    first = next(said for said in node.heard if isinstance(said, wire.Said))
    await node.connections[0].say(wire.Ack(first.number))
    await node.store.until(lambda: node.store.finished(3))
    assert node.store.finished(2) is None


async def test_a_job_that_is_missing_in_the_level_is_ended(
    cluster: NodesAndWorkers, tmp_path: Path
) -> None:
    node = await cluster.node()
    cluster.worker(node)
    await node.want(assigned(1, f"echo $$ > {tmp_path}/pid; {WAIT}"))
    await node.store.until(lambda: b"ready" in node.store.log_of(job(1)))
    await node.want()
    await node.store.until(lambda: node.store.finished(1))
    assert not alive(pid_in(tmp_path / "pid"))


async def test_stale_attempts_are_ended_and_their_folders_kept(cluster: NodesAndWorkers) -> None:
    node = await cluster.node(stale={(job(1), 1)})
    worker = cluster.worker(node)
    await node.want(assigned(1, WAIT), assigned(2, "echo well"))
    await node.store.until(lambda: node.store.finished(2))
    await eventually((worker.data / "worker/w1-1-1/result").exists)
    assert _marked_processes(f"{worker.data}/worker/w1-1-1") == []
    await node.want(assigned(2, "echo well"))
    await eventually((worker.data / "worker/stale/w1-1-1/log").exists)
    assert node.store.started(1) == []


async def test_output_is_sent_in_messages_of_the_nodes_size(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    await node.want(*(assigned(i, "head -c 300000 /dev/zero | tr '\\0' x") for i in range(1, 25)))
    cluster.worker(node, boxes=24)  # the node cuts larger ones
    await node.store.until(lambda: all(node.store.finished(i) for i in range(1, 25)))
    assert all(len(node.store.log_of(job(i))) == 300_000 for i in range(1, 25))
    assert len(node.hellos) == 1


# --- Nodes that leave and return --------------------------------------------------------------


async def test_a_worker_goes_to_another_node_when_one_is_gone(cluster: NodesAndWorkers) -> None:
    one = await cluster.node()
    two = await cluster.node(store=one.store, desired=one.desired)
    await one.want(assigned(1, f"trap 'echo well; exit 0' TERM; {WAIT}"))
    cluster.worker(one, two)
    await one.store.until(lambda: b"ready" in one.store.log_of(job(1)))
    first, other = (one, two) if one.connections else (two, one)
    await first.stop()
    await other.connected()
    assert other.hellos[-1].identity == first.hellos[-1].identity
    assert other.hellos[-1].holds == ((job(1), 1),)
    await other.want(attrs.evolve(other.desired[0], stop=True))
    await one.store.until(lambda: one.store.finished(1))
    assert one.store.log_when_finished[job(1)].endswith(b"well\n")
    assert len({said.at for said in one.store.started(1)}) == 1  # repeated, perhaps


async def test_a_worker_returns_to_the_same_node(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    cluster.worker(node)
    await node.connected()
    await node.stop()
    await node.start()
    await node.connected()
    assert len(node.hellos) == 2


async def test_a_worker_returns_soon_to_a_node_that_is_started_again(
    cluster: NodesAndWorkers,
) -> None:
    """While nothing listens, its pauses are short: tries cost the node nothing."""
    node = await cluster.node()
    pace = attrs.evolve(QUICK, first_wait=3_600.0, longest_wait=3_600.0)
    cluster.worker(node, pace=attrs.evolve(pace, longest_wait_unheard=0.05))
    await node.connected()
    await node.leave()
    await node.stop()
    await node.start()
    await node.connected()


async def test_a_worker_leaves_a_stopping_node_at_once(cluster: NodesAndWorkers) -> None:
    one = await cluster.node()
    two = await cluster.node()
    cluster.worker(one, two, pace=attrs.evolve(QUICK, first_wait=60.0, longest_wait=60.0))
    await eventually(lambda: one.connections or two.connections)
    first, other = (one, two) if one.connections else (two, one)
    await first.leave()
    await other.connected()


async def test_a_worker_leaves_a_silent_node(cluster: NodesAndWorkers) -> None:
    one = await cluster.node()
    two = await cluster.node()
    cluster.worker(one, two, pace=attrs.evolve(QUICK, silence=0.2, beat=0.02))
    await eventually(lambda: one.connections or two.connections)
    first, other = (one, two) if one.connections else (two, one)
    first.acks_beats = False
    await other.connected()
    assert not any(isinstance(said, wire.Said) for said in other.heard)


async def test_unacknowledged_messages_are_repeated_unchanged(cluster: NodesAndWorkers) -> None:
    one = await cluster.node(acks_said=False)
    two = await cluster.node(acks_said=False)
    await one.want(assigned(1))
    await two.want(assigned(1))
    cluster.worker(one, two, box_driver="none")
    await eventually(lambda: one.store.finished(1) or two.store.finished(1))
    first, other = (one, two) if one.store.finished(1) else (two, one)
    other.acks_said = True
    await first.stop()
    await other.store.until(lambda: other.store.finished(1))
    assert other.store.reports[:2] == first.store.reports


async def test_unacknowledged_output_is_repeated_with_the_same_chunk_borders(
    cluster: NodesAndWorkers,
) -> None:
    one = await cluster.node(acks_output=False)
    two = await cluster.node(store=one.store, desired=one.desired, acks_output=False)
    await one.want(assigned(1, "echo some; sleep 0.5; seq 20000"))
    cluster.worker(one, two)
    await one.store.until(lambda: one.store.chunks[job(1)])
    first, other = (one, two) if one.hellos else (two, one)
    other.acks_output = True
    await first.stop()
    await one.store.until(lambda: one.store.finished(1))
    assert one.store.log_of(job(1)) == b"some\n" + b"".join(b"%d\n" % i for i in range(1, 20_001))


async def test_a_level_that_was_not_started_is_dropped_with_its_connection(
    cluster: NodesAndWorkers,
) -> None:
    node = await cluster.node(acks_said=False)
    cluster.worker(node, box_driver="none")
    await node.want(assigned(1))
    await node.store.until(lambda: node.store.finished(1))
    await node.want(assigned(2))  # waits behind the first, whose report is not acknowledged
    node.acks_said = True
    node.desired[:] = [assigned(3)]
    node.connections[0].cut()
    await node.store.until(lambda: node.store.finished(3))
    assert node.store.finished(2) is None


# --- Its lease ------------------------------------------------------------------------------


async def test_the_sending_time_of_the_last_answered_heartbeat_is_stored(
    cluster: NodesAndWorkers,
) -> None:
    node = await cluster.node(lost_after=60.0)
    worker = cluster.worker(node, pace=attrs.evolve(QUICK, beat=0.02))
    await eventually(lambda: (worker.data / "worker").is_dir())
    folder = at(worker.data / "worker")
    await eventually(lambda: read_last_heartbeat(folder))
    heard = read_last_heartbeat(folder)
    assert heard is not None
    assert heard.lost_after == 60.0
    await eventually(lambda: (now := read_last_heartbeat(folder)) and now.at > heard.at)
    node.acks_beats = False
    connection = node.connections[0]
    count = connection.beats
    await node.until(lambda: connection.beats >= count + 3)
    heard = read_last_heartbeat(folder)
    await node.until(lambda: connection.beats >= count + 6)
    assert read_last_heartbeat(folder) == heard


async def test_a_build_without_contact_is_ended_and_its_result_is_reported_later(
    cluster: NodesAndWorkers,
) -> None:
    node = await cluster.node(lost_after=2.0)
    await node.want(assigned(1, WAIT), assigned(2, WAIT, kind=Kind.DEPLOY, server="production"))
    worker = cluster.worker(node, pace=attrs.evolve(QUICK, beat=0.05))
    await node.store.until(lambda: all(b"ready" in node.store.log_of(job(i)) for i in (1, 2)))
    await node.stop()
    await eventually((worker.data / "worker/w1-1-1/result").exists)
    await node.start()
    await node.store.until(lambda: node.store.finished(1))
    finished = node.store.finished(1)
    assert finished is not None
    assert finished.reason == "lost: no node answered for 2 s"
    assert not (worker.data / "worker/w2-1-1/result").exists()


# --- The end --------------------------------------------------------------------------------


async def test_messages_in_progress_are_flushed_at_the_end(cluster: NodesAndWorkers) -> None:
    node = await cluster.node(acks_said=False)
    worker = cluster.worker(node, box_driver="none", pace=attrs.evolve(QUICK, flush=20.0))
    await node.want(assigned(1))
    await node.until(lambda: any(isinstance(said, wire.Said) for said in node.heard))
    ending = asyncio.create_task(worker.end())
    said = next(said for said in node.heard if isinstance(said, wire.Said))
    await asyncio.sleep(0)
    assert not worker.task.done()
    await node.connections[0].say(wire.Ack(said.number))
    await ending
    await node.until(lambda: not node.connections)


async def test_the_end_does_not_wait_for_an_absent_node(cluster: NodesAndWorkers) -> None:
    node = await cluster.node(acks_said=False)
    worker = cluster.worker(node, box_driver="none", pace=attrs.evolve(QUICK, flush=3_600.0))
    await node.want(assigned(1))
    await node.until(lambda: any(isinstance(said, wire.Said) for said in node.heard))
    await node.stop()
    await worker.end()


async def test_a_drained_worker_ends_when_it_has_no_running_job(
    cluster: NodesAndWorkers,
) -> None:
    node = await cluster.node()
    await node.want(assigned(1, WAIT))
    worker = cluster.worker(node)
    await node.store.until(lambda: node.store.started(1))
    connection = await node.connected()
    await connection.say(wire.Drained())
    await node.want()  # its lease has ended: the worker ends it
    await worker.ended()
    assert node.hellos[0].ends_when_drained
    assert worker.remote.jobs == 0
