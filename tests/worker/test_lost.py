"""A build's job ends with its worker's lease, whatever its agent does meanwhile."""

import os
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from boxsched.model import Kind
from boxsched.protocol import wire
from boxsched.states import Result
from boxsched.worker.agent import attempt_watcher
from boxsched.worker.agent import site as agent_site
from boxsched.worker.agent.forking import Spawner
from boxsched.worker.remote import connecting, link
from boxsched.worker.supervisor import last_heartbeat
from boxsched.worker.supervisor.last_heartbeat import (
    Deadline,
    LastHeartbeat,
    boottime,
    next_heartbeat,
    open_last_heartbeat,
    read_last_heartbeat,
    write_last_heartbeat,
)
from tests.worker.harness import AgentHarness, alive, assigned, at, eventually, job, pid_in
from tests.worker.nodes_and_workers import QUICK, NodesAndWorkers
from tests.worker.test_folder import RECORD

WAIT = "echo ready; while :; do sleep 0.05; done"


# --- The file of the last heartbeat -------------------------------------------------------------


def test_the_last_heartbeat_is_read_back_and_the_file_keeps_its_size(tmp_path: Path) -> None:
    assert read_last_heartbeat(at(tmp_path)) is None
    file = open_last_heartbeat(at(tmp_path))
    size = os.fstat(file).st_size
    assert read_last_heartbeat(at(tmp_path)) is None
    for heard in (
        LastHeartbeat("boot", 12.5, 120.0, 1.5),
        LastHeartbeat("", 1e9 / 3, 0.1, 0.0),
        LastHeartbeat("b", 1.0, 2.0, 1.0),
    ):
        write_last_heartbeat(file, heard)
        assert read_last_heartbeat(at(tmp_path)) == heard
    assert os.fstat(file).st_size == size
    os.close(file)
    os.close(open_last_heartbeat(at(tmp_path)))  # a later agent left it as it was
    assert read_last_heartbeat(at(tmp_path)) == LastHeartbeat("b", 1.0, 2.0, 1.0)


def test_a_half_written_record_says_nothing(tmp_path: Path) -> None:
    file = open_last_heartbeat(at(tmp_path))
    write_last_heartbeat(file, LastHeartbeat("boot", 1.0, 2.0, 1.0))
    old = (tmp_path / last_heartbeat.FILE_NAME).read_bytes()
    write_last_heartbeat(file, LastHeartbeat("boot", 3.25, 2.0, 1.0))
    os.close(file)
    new = (tmp_path / last_heartbeat.FILE_NAME).read_bytes()
    for cut in range(len(new)):
        torn = new[:cut] + old[cut:]
        (tmp_path / last_heartbeat.FILE_NAME).write_bytes(torn)
        heard = read_last_heartbeat(at(tmp_path))
        assert heard is None or torn in (old, new)


def test_a_deadline_uses_only_heartbeats_of_this_boot(tmp_path: Path) -> None:
    record = RECORD._replace(lost_after=100.0)
    begun = boottime()
    deadline = Deadline(at(tmp_path), record)
    assert not deadline.passed(begun + 99)
    assert deadline.passed(begun + 101)
    file = open_last_heartbeat(at(tmp_path))
    write_last_heartbeat(file, LastHeartbeat("another", begun + 50, 100.0, begun))
    assert deadline.passed(begun + 101)
    write_last_heartbeat(file, LastHeartbeat(record.boot, begun + 50, 60.0, begun))
    assert not deadline.passed(begun + 109)
    assert deadline.passed(begun + 110)
    assert deadline.lost_after == 60.0
    (tmp_path / last_heartbeat.FILE_NAME).write_bytes(
        b"\xff" * 256
    )  # the last one that was read stays
    assert not deadline.passed(begun + 109)
    os.close(file)
    assert not Deadline(at(tmp_path), RECORD).passed(float("inf"))


def test_a_heartbeat_that_comes_too_late_renews_nothing(tmp_path: Path) -> None:
    """As after the machine slept: the job has been given again by now."""
    first = next_heartbeat(None, "boot", 10.0, 120.0)
    assert first == LastHeartbeat("boot", 10.0, 120.0, 10.0)
    in_time = next_heartbeat(first, "boot", 130.0, 120.0)
    assert in_time == LastHeartbeat("boot", 130.0, 120.0, 10.0)
    late = next_heartbeat(in_time, "boot", 250.5, 120.0)
    assert late == LastHeartbeat("boot", 250.5, 120.0, 250.5)
    assert next_heartbeat(late, "another", 251.0, 120.0).since == 251.0
    record = RECORD._replace(lost_after=100.0)
    deadline = Deadline(at(tmp_path), record)
    begun = boottime()
    file = open_last_heartbeat(at(tmp_path))
    write_last_heartbeat(file, LastHeartbeat(record.boot, begun + 300, 100.0, begun + 300))
    assert deadline.passed(begun + 301)
    write_last_heartbeat(file, LastHeartbeat(record.boot, begun + 302, 1_000.0, begun + 300))
    assert deadline.passed(begun + 303), "also where the node that came promises more"
    os.close(file)


def test_an_unseen_shorter_promise_counts(tmp_path: Path) -> None:
    """The supervisor was frozen when the promise was made and when it ended."""
    record = RECORD._replace(lost_after=600.0)
    deadline = Deadline(at(tmp_path), record)
    begun = boottime()
    file = open_last_heartbeat(at(tmp_path))
    first = LastHeartbeat(record.boot, begun - 1, 600.0, begun - 50)
    write_last_heartbeat(file, first)
    assert not deadline.passed(begun + 1)
    unseen = next_heartbeat(first, record.boot, begun + 10, 60.0)
    write_last_heartbeat(file, next_heartbeat(unseen, record.boot, begun + 100, 60.0))
    assert deadline.passed(begun + 101), "it has been given again"
    os.close(file)


def test_a_build_of_the_only_node_has_a_deadline_once_there_are_others(tmp_path: Path) -> None:
    """As when SQLite was moved to PostgreSQL while it ran."""
    record = RECORD._replace(lost_after=float("inf"))
    file = open_last_heartbeat(at(tmp_path))
    write_last_heartbeat(file, LastHeartbeat(record.boot, boottime() - 9_000, 60.0, 0.0))
    deadline = Deadline(at(tmp_path), record)
    begun = boottime()
    assert not deadline.passed(begun + 9_000), "that was an earlier life of the folder"
    write_last_heartbeat(file, LastHeartbeat(record.boot, begun + 9_000, 60.0, begun + 9_000))
    assert not deadline.passed(begun + 9_059)
    assert deadline.passed(begun + 9_060)
    os.close(file)


# --- Jobs -----------------------------------------------------------------------------------


async def test_a_build_ends_when_no_node_answered(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness(lost_after=120.0)
    await harness.agent.start()
    harness.agent.heartbeat_answered(boottime(), 120.0)
    script = f"(setsid sleep 100 & echo $! > {tmp_path}/pid); {WAIT}"
    builds = [assigned(1, script), assigned(2, WAIT, kind=Kind.DEPLOY, server="production")]
    await harness.agent.reconcile(builds)
    await harness.said(1, b"ready")
    await harness.said(2, b"ready")
    harness.agent.heartbeat_answered(
        boottime(), 0.1
    )  # the nodes' --lost-after was lowered; then silence
    finished = await harness.end(1)
    assert finished.result is Result.FAILED
    assert finished.reason == "lost: no node answered for 0.1 s"
    assert not alive(pid_in(tmp_path / "pid"))
    await harness.agent.reconcile(builds)
    assert harness.store.finished(2) is None  # a deploy may outlive its worker's lease


async def test_a_build_continues_while_a_node_answers(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(lost_after=0.5)
    await harness.agent.start()
    harness.agent.heartbeat_answered(boottime(), 1.5)
    await harness.agent.reconcile([assigned(1, "sleep 3; echo well")])
    until = boottime() + 3.0
    await eventually(
        lambda: (
            harness.agent.heartbeat_answered(boottime(), 1.5)
            or boottime() > until
            or harness.store.finished(1)
        )
    )
    assert (await harness.end(1)).result is Result.PASSED


async def test_an_overdue_worker_begins_no_build(
    make_harness: Callable[..., AgentHarness], tmp_path: Path
) -> None:
    harness = make_harness(lost_after=60.0)
    await harness.agent.start()
    harness.agent.heartbeat_answered(boottime() - 100, 60.0)  # frozen between level and start
    await harness.agent.reconcile([assigned(1, f"touch {tmp_path}/ran")])
    finished = await harness.end(1)
    assert finished.reason == "lost: no node answered for 60 s"
    assert not (tmp_path / "ran").exists()


async def test_a_long_grace_does_not_outlive_the_lease(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(lost_after=60.0, stop_grace=3_600.0)
    await harness.agent.start()
    harness.agent.heartbeat_answered(boottime(), 60.0)
    # Its first process ends at once; the others ignore the stop.
    script = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    stubborn = f"bash -c \"{script}\" & trap 'exit 0' TERM; while :; do sleep 0.05; done"
    await harness.agent.reconcile([assigned(1, stubborn)])
    await harness.said(1, b"ready")
    await harness.agent.reconcile([assigned(1, stubborn, stop=True)])
    harness.agent.heartbeat_answered(boottime(), 0.1)
    assert (await harness.end(1)).result is Result.STOPPED


async def test_the_worker_of_a_node_that_is_alone_has_no_deadline(harness: AgentHarness) -> None:
    await harness.agent.reconcile([assigned(1, WAIT)])
    await harness.said(1, b"ready")
    harness.agent.heartbeat_answered(boottime() - 1_000, 0.1)
    assert read_last_heartbeat(at(harness.folder)) is None


async def test_a_lease_counts_from_the_sending_of_the_answered_heartbeat(
    cluster: NodesAndWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer may take long: the node counts from what it received."""
    now = [1_000.0]
    for module in (link, connecting):
        monkeypatch.setattr(module, "boottime", lambda: now[0])
    node = await cluster.node(lost_after=60.0)

    def late(said: wire.FromWorker) -> None:
        if isinstance(said, wire.Hello | wire.Beat):
            now[0] += 50.0
        node.acks_beats = now[0] <= 1_100.0

    node.before_answer = late
    worker = cluster.worker(node, pace=attrs.evolve(QUICK, beat=0.01))
    file = worker.data / "worker" / last_heartbeat.FILE_NAME
    await eventually(lambda: file.exists() and read_last_heartbeat(at(file.parent)))
    await node.until(lambda: now[0] > 1_200.0)
    await eventually(lambda: heard_at(file.parent) > 1_000.0)
    assert heard_at(file.parent) == 1_050.0, "the only heartbeat that was answered was sent then"


async def test_a_lease_counts_from_the_sending_of_the_hello(
    cluster: NodesAndWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1_000.0]
    monkeypatch.setattr(connecting, "boottime", lambda: now[0])
    node = await cluster.node(lost_after=60.0, acks_beats=False)

    def late(said: wire.FromWorker) -> None:
        now[0] += 50.0

    node.before_answer = late
    worker = cluster.worker(node)
    file = worker.data / "worker" / last_heartbeat.FILE_NAME
    await eventually(lambda: file.exists() and read_last_heartbeat(at(file.parent)))
    assert heard_at(file.parent) == 1_000.0
    worker.remote.heartbeat_answered(990.0)
    assert worker.remote._answered_at == 1_000.0, "a later answer to an earlier heartbeat"


def heard_at(folder: Path) -> float:
    heard = read_last_heartbeat(at(folder))
    return 0.0 if heard is None else heard.at


async def test_an_answer_that_comes_after_a_later_one_does_not_shorten_the_lease(
    make_harness: Callable[..., AgentHarness],
) -> None:
    harness = make_harness(lost_after=60.0)
    await harness.agent.start()
    now = boottime()
    for sent in (now, now - 5, now + 1):
        harness.agent.heartbeat_answered(sent, 60.0 + sent - now)
    harness.agent.heartbeat_answered(now - 50, 1.0)
    heard = read_last_heartbeat(at(harness.folder))
    assert heard == LastHeartbeat(agent_site.boot_id(), now + 1, 61.0, now)


# --- Dropped attempts -----------------------------------------------------------------------


async def test_a_dropped_attempt_is_ended_and_its_output_is_kept(
    harness: AgentHarness, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = f"trap '' TERM; echo $$ > {tmp_path}/pid; {WAIT}"
    await harness.agent.reconcile([assigned(1, script), assigned(2, WAIT)])
    await harness.said(1, b"ready")
    await harness.said(2, b"ready")
    assert set(harness.agent.holds) == {(job(1), 1), (job(2), 2)}
    harness.agent._driver.__dict__["_stop_grace"] = 3_600.0  # a dropped job has none
    harness.agent.drop([(job(1), 1), (job(2), 999), (job(3), 3)])
    await harness.end(1)
    assert not alive(pid_in(tmp_path / "pid"))
    assert "w1-1-1 no longer belongs to this worker" in caplog.text
    await harness.agent.reconcile([assigned(2, WAIT)])
    kept = harness.folder / agent_site.STALE / "w1-1-1"
    await eventually(kept.is_dir)
    assert b"ready" in (kept / "log").read_bytes()
    assert harness.store.finished(2) is None
    assert harness.agent.holds == ((job(2), 2),)


async def test_an_attempt_that_is_dropped_early_ends_when_its_supervisor_starts(
    harness: AgentHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempt_watcher, "ASK_AGAIN_SECONDS", 0.05)
    real = Spawner.ask
    monkeypatch.setattr(Spawner, "ask", lambda spawner, name: None)
    wanted = assigned(1, f"touch {tmp_path}/ran; {WAIT}")
    await harness.agent.reconcile([wanted])
    harness.agent.drop([(job(1), 1)])
    monkeypatch.setattr(Spawner, "ask", real)
    assert (await harness.end(1)).result is Result.STOPPED
    assert not (tmp_path / "ran").exists()


async def test_only_the_newest_dropped_attempts_are_kept(
    harness: AgentHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_site, "KEPT_STALE", 2)
    for number in (1, 2, 3):
        await harness.agent.reconcile([assigned(number, WAIT)])
        await harness.said(number, b"ready")
        harness.agent.drop([(job(number), number)])
        await harness.agent.reconcile([])
        await eventually((harness.folder / agent_site.STALE / f"w{number}-1-1").is_dir)
    kept = {path.name for path in (harness.folder / agent_site.STALE).iterdir()}
    assert kept == {"w2-1-1", "w3-1-1"}
