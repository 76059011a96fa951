"""External workers that are refused, and the identity of a worker."""

from pathlib import Path

import attrs
import pytest

from boxsched.protocol import wire
from boxsched.worker.agent.site import FolderInUse
from boxsched.worker.remote.identity import Unusable
from boxsched.worker.remote.link import RefusedByNode
from tests.worker.fake_node import TOKEN
from tests.worker.harness import alive, assigned, eventually, job, pid_in
from tests.worker.nodes_and_workers import QUICK, NodesAndWorkers

WAIT = "echo ready; while :; do sleep 0.05; done"


# --- Refusals -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "prefix", "said"),
    [
        (401, "unauthorized", "", r"token is invalid or expired \(401\); create one with"),
        (
            403,
            "not_a_worker",
            "",
            "this token is not a worker's; a worker needs one of the role worker: `boxsched",
        ),
        (403, "forbidden", "", r"refuses this worker \(403\): no\?entry"),
        (
            403,
            "forbidden",
            "/ci",
            r"there is no node at http\S+/ci/api/v1/worker \(403\): .*--url",
        ),
        (
            403,
            "",
            "",
            r"the server at http\S+ is not boxsched \(403\): check the URL",
        ),
    ],
)
async def test_a_refusal_that_only_a_person_can_fix_ends_a_worker_at_the_first_connect(
    cluster: NodesAndWorkers, status: int, code: str, prefix: str, said: str
) -> None:
    node = await cluster.node(status=status, code=code, prefix=prefix)
    with pytest.raises(RefusedByNode, match=rf"^http://127.0.0.1\S*: .*{said}"):
        await cluster.worker(node.url + prefix).ended()


async def test_a_node_may_be_below_a_path(cluster: NodesAndWorkers) -> None:
    node = await cluster.node(prefix="/ci")
    cluster.worker(f"{node.url}/ci/")
    await node.connected()


@pytest.mark.parametrize(
    ("status", "said"), [(404, "is not boxsched (404): check the URL"), (502, "status 502")]
)
async def test_temporary_errors_are_retried(
    cluster: NodesAndWorkers, caplog: pytest.LogCaptureFixture, status: int, said: str
) -> None:
    node = await cluster.node(status=status, code="")
    cluster.worker(node)
    await node.until(lambda: node.asked >= 4)
    assert said in caplog.text
    assert "; trying again" in caplog.text  # there is no other
    node.status = None
    await node.connected()


async def test_a_permanent_refusal_ends_a_worker_at_the_first_connect(
    cluster: NodesAndWorkers,
) -> None:
    node = await cluster.node(refusal=wire.Refused("version", "upgrade\nthe worker", False))
    with pytest.raises(RefusedByNode, match=r"upgrade\?the worker"):
        await cluster.worker(node).ended()


async def test_after_the_first_connect_a_worker_keeps_trying(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    cluster.worker(node)
    await node.connected()
    node.status = 401
    node.connections[0].cut()
    await node.until(lambda: node.asked >= 4)
    node.status = None
    await node.connected()


async def test_a_changed_token_is_tried_at_once(cluster: NodesAndWorkers) -> None:
    """Long before the time after which the same token would be tried again."""
    token = [TOKEN]
    node = await cluster.node()
    pace = attrs.evolve(QUICK, refused=3_600.0, look=0.01)
    cluster.worker(node, token=lambda: token[0], pace=pace)
    await node.connected()
    node.token = "another"
    node.connections[0].cut()
    await node.until(lambda: node.asked >= 2 and not node.connections)
    token[0] = "another"
    await node.connected()


async def test_a_temporary_refusal_sends_the_worker_to_another_node(
    cluster: NodesAndWorkers, caplog: pytest.LogCaptureFixture
) -> None:
    one = await cluster.node(refusal=wire.Refused("leaving", "this node is stopping", True))
    two = await cluster.node(status=503)
    three = await cluster.node()
    cluster.worker(one, two, three)
    await three.connected()
    assert "trying again" not in caplog.text


# --- Identity -------------------------------------------------------------------------------


async def test_a_restarted_worker_is_the_same_worker_and_adopts_its_jobs(
    cluster: NodesAndWorkers, tmp_path: Path
) -> None:
    node = await cluster.node()
    gate = tmp_path / "gate"
    await node.want(assigned(1, f"echo one; until [ -e {gate} ]; do sleep 0.01; done; echo two"))
    first = cluster.worker(node)
    await node.store.until(lambda: b"one" in node.store.log_of(job(1)))
    await first.end()
    assert (first.data / "identity").stat().st_mode & 0o777 == 0o600
    gate.touch()
    cluster.worker(node, name="another name")
    await node.store.until(lambda: node.store.finished(1))
    assert node.store.log_when_finished[job(1)] == b"one\ntwo\n"
    old, new = node.hellos
    assert (old.identity, new.name) == (new.identity, "another name")
    assert new.holds == ((job(1), 1),)


async def test_jobs_are_adopted_while_no_node_is_reachable(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    await node.want(assigned(1, WAIT))
    first = cluster.worker(node)
    await node.store.until(lambda: b"ready" in node.store.log_of(job(1)))
    await first.end()
    await node.stop()
    second = cluster.worker(node)
    await eventually(lambda: second.remote._agent is not None)
    assert second.remote._agent is not None
    assert second.remote._agent.holds == ((job(1), 1),)


async def test_jobs_of_another_installation_are_ended_and_not_reported(
    cluster: NodesAndWorkers, tmp_path: Path
) -> None:
    ours = await cluster.node()
    await ours.want(assigned(1, f"echo $$ > {tmp_path}/pid; {WAIT}"))
    first = cluster.worker(ours)
    await ours.store.until(lambda: b"ready" in ours.store.log_of(job(1)))
    await first.end()
    theirs = await cluster.node(cluster="theirs")
    second = cluster.worker(theirs)
    await eventually((second.data / "worker/quarantine/w1-1-1").is_dir)
    assert not alive(pid_in(tmp_path / "pid"))
    await theirs.want(assigned(2, "true"))
    await theirs.store.until(lambda: theirs.store.finished(2))
    assert theirs.store.finished(1) is None
    assert not theirs.store.chunks[job(1)]


async def test_later_a_worker_does_not_talk_to_another_installation(
    cluster: NodesAndWorkers,
) -> None:
    ours = await cluster.node()
    worker = cluster.worker(ours)
    await ours.connected()
    ours.cluster = "theirs"
    ours.connections[0].cut()
    await ours.until(lambda: len(ours.hellos) >= 3)
    assert (worker.data / "cluster").read_text() == "ours\n"
    assert not worker.task.done()


async def test_two_processes_do_not_share_a_data_folder(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    cluster.worker(node, box_driver="none")
    await node.connected()
    with pytest.raises(FolderInUse, match="data folder"):
        await cluster.worker(node, box_driver="none").ended()


async def test_a_damaged_identity_is_not_a_new_one(cluster: NodesAndWorkers) -> None:
    data = cluster.folder / "data"
    data.mkdir()
    (data / "identity").write_text("")
    with pytest.raises(Unusable, match="identity"):
        await cluster.worker("http://127.0.0.1:1").ended()
