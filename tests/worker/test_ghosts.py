"""Attempts that a worker holds and that its level does not contain any more."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

from boxsched.model import JobId, Kind
from boxsched.protocol import wire
from boxsched.protocol.assignments import Assignment
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.protocol.inbox import JobFinished
from boxsched.states import Result
from boxsched.worker.agent import ghosts as agent_ghosts
from tests.worker.harness import AgentHarness, alive, assigned, eventually, job, pid_in
from tests.worker.nodes_and_workers import QUICK, NodesAndWorkers

Make = Callable[..., AgentHarness]


@pytest.fixture
def go(tmp_path: Path) -> Path:
    return tmp_path / "go"


def deploy(number: int, *commands: str, **other: Any) -> Assignment:
    return assigned(number, *commands, kind=Kind.DEPLOY, server="production", **other)


def waiting(go: Path, number: int = 1, **other: Any) -> Assignment:
    """A deploy that says something, waits for the file ``go``, and says something more."""
    script = (
        f"echo $$ > {go}.new; mv {go}.new {go}.pid; echo begun",
        f"until [ -e {go} ]; do sleep 0.02; done; echo done",
    )
    return deploy(number, *script, **other)


async def haunted(make_harness: Make, go: Path, **options: Any) -> AgentHarness:
    """A worker with a ghost of a deploy that runs."""
    harness = make_harness(**options)
    await harness.agent.start()
    await harness.agent.reconcile([waiting(go)])
    await harness.said(1, b"begun")
    await harness.agent.reconcile([])
    return harness


@pytest.mark.parametrize("kind", [Kind.DEPLOY, Kind.SSH])
async def test_only_a_build_is_ended_because_the_level_does_not_contain_it(
    make_harness: Make, go: Path, kind: Kind
) -> None:
    harness = make_harness()
    await harness.agent.start()
    assert harness.agent.ghosts is None, "there was no level yet"
    build = assigned(2, "echo begun; sleep 60", ordinal=2)
    await harness.agent.reconcile([waiting(go), build])
    await harness.store.until(lambda: harness.store.started(1) and harness.store.started(2))
    assert harness.agent.ghosts == ()
    await harness.agent.reconcile([])
    assert harness.agent.ghosts == (
        HeldAttempt(job(1), 1, 1, False, True),
        HeldAttempt(job(2), 1, 2, True, True),
    )
    await eventually(lambda: harness.agent.holds == ((job(1), 1),))
    ended = harness.store.finished(2)
    assert ended is not None and ended.result is Result.STOPPED
    assert harness.store.finished(1) is None
    assert alive(pid_in(Path(f"{go}.pid")))


async def test_a_deploy_whose_report_arrives_before_its_answer_is_no_ghost(
    make_harness: Make, go: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The scheduler has the report, and the level lacks the job, before the worker knows it."""
    harness = make_harness()
    await harness.agent.start()
    await harness.agent.reconcile([waiting(go)])
    await harness.store.until(lambda: harness.store.started(1))
    harness.store.answers.clear()
    go.touch()
    await harness.store.until(lambda: harness.store.finished(1))
    await harness.agent.reconcile([])
    harness.store.answers.set()
    await eventually(lambda: harness.agent.holds == ())
    assert harness.agent.ghosts == ()
    assert "is a ghost" not in caplog.text


async def test_a_restored_ghost_goes_on_with_its_whole_log_under_its_new_token(
    make_harness: Make, go: Path
) -> None:
    harness = await haunted(make_harness, go)
    pid = pid_in(Path(f"{go}.pid"))
    harness.store.chunks.clear()  # a node does not store the output of a ghost
    back = waiting(go, lease_token=9, restores=1, started=True)
    await harness.agent.reconcile([back])
    assert harness.agent.ghosts == () and harness.agent.holds == ((job(1), 9),)
    await harness.store.until(
        lambda: [one.lease_token for one in harness.store.started(1)] == [1, 9]
    )
    go.touch()
    await harness.store.until(lambda: harness.store.finished(1))
    ended = harness.store.finished(1)
    assert ended is not None and (ended.lease_token, ended.result) == (9, Result.PASSED)
    assert harness.log() == b"begun\ndone\n"
    assert not alive(pid)


async def test_a_ghost_that_has_ended_keeps_its_result_until_it_is_restored(
    make_harness: Make, go: Path
) -> None:
    harness = await haunted(make_harness, go)
    go.touch()
    await eventually(lambda: harness.agent.ghosts == (HeldAttempt(job(1), 1, 1, False, False),))
    assert harness.agent.ended_ghosts == 1
    await harness.restart()
    assert harness.agent.ghosts is None
    await harness.agent.reconcile([])
    await eventually(lambda: harness.agent.ghosts == (HeldAttempt(job(1), 1, 1, False, False),))
    assert harness.store.finished(1) is None, "nobody was told its end"
    await harness.agent.reconcile([waiting(go, lease_token=9, restores=1, started=True)])
    await harness.store.until(lambda: harness.store.finished(1))
    ended = harness.store.finished(1)
    assert ended is not None and (ended.lease_token, ended.result) == (9, Result.PASSED)
    assert harness.log() == b"begun\ndone\n"


async def test_the_new_token_outlives_the_agent(make_harness: Make, go: Path) -> None:
    harness = await haunted(make_harness, go)
    back = waiting(go, lease_token=9, restores=1, started=True)
    await harness.agent.reconcile([back])
    await harness.restart()
    await harness.agent.reconcile([back])
    assert harness.agent.holds == ((job(1), 9),)
    go.touch()
    await harness.store.until(lambda: harness.store.finished(1))


@pytest.mark.parametrize("ended", [True, False])
async def test_a_ghost_that_a_person_ends_is_gone(
    make_harness: Make, go: Path, ended: bool
) -> None:
    harness = await haunted(make_harness, go, stop_grace=0.0)
    pid = pid_in(Path(f"{go}.pid"))
    if ended:
        go.touch()
        await eventually(lambda: harness.agent.ended_ghosts)
    harness.agent.end_ghosts([(job(1), 1)])
    await eventually(lambda: not harness.agent.holds)
    await eventually(lambda: harness.agent.ghosts == ())
    assert not alive(pid)
    assert (harness.folder / "stale" / "w1-1-1" / "log").read_bytes().startswith(b"begun\n")


async def test_the_next_attempt_begins_when_the_ghost_has_been_ended(
    make_harness: Make, go: Path
) -> None:
    """A person said "again" of a job whose worker was away; nothing runs twice on that worker."""
    harness = await haunted(make_harness, go, stop_grace=0.0)
    second = deploy(1, "echo second", attempt=2, lease_token=5)
    await harness.agent.reconcile([second])
    assert harness.agent.holds == ((job(1), 1),)
    harness.agent.end_ghosts([(job(1), 1)])
    await eventually(lambda: (job(1), 5) in {(one.job, one.lease_token) for one in ends(harness)})


async def test_a_ghost_does_not_hold_up_its_box(make_harness: Make, go: Path) -> None:
    harness = await haunted(make_harness, go)
    other = deploy(2, "true")
    await harness.agent.reconcile([other])
    await harness.store.until(lambda: harness.store.finished(2))
    assert harness.store.finished(1) is None


async def test_a_job_that_is_restored_where_nothing_of_it_is_left_fails(
    make_harness: Make,
) -> None:
    harness = make_harness()
    await harness.agent.start()
    back = deploy(1, "true", lease_token=9, restores=1, started=True)
    await harness.agent.reconcile([back])
    await harness.store.until(lambda: harness.store.finished(1))
    ended = harness.store.finished(1)
    assert ended is not None and ended.result is Result.FAILED
    assert ended.reason == "lost: its record is gone"


async def test_an_attempt_that_a_node_refuses_is_kept_with_its_result(
    make_harness: Make, go: Path
) -> None:
    """Its end was on its way when the worker was cut off; the next node has sent no level yet."""
    harness = make_harness()
    await harness.agent.start()
    await harness.agent.reconcile([waiting(go)])
    await harness.said(1, b"begun")

    async def refuse(reports: Any) -> None:
        harness.agent.drop([(JobId(one.job), one.lease_token) for one in reports])

    harness.agent._driver.__dict__["_outbox"]._report = refuse
    go.touch()
    await eventually(lambda: harness.agent.ended_ghosts)
    await harness.agent.reconcile([])
    assert harness.agent.ghosts == (HeldAttempt(job(1), 1, 1, False, False),)


async def test_only_so_many_ended_ghosts_are_kept(
    make_harness: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_ghosts, "KEPT_ENDED", 1)
    harness = make_harness()
    await harness.agent.start()
    for number in (1, 2):
        await harness.agent.reconcile([deploy(number, "echo begun; sleep 0.2", ordinal=number)])
        await harness.said(number, b"begun")
    await harness.agent.reconcile([])
    await eventually(lambda: harness.agent.ended_ghosts == 2)
    await harness.agent.reconcile([])
    await eventually(lambda: harness.agent.ghosts == (HeldAttempt(job(2), 1, 2, False, False),))


async def test_a_heartbeat_names_ghosts_at_once_and_its_answer_ends_them(
    cluster: NodesAndWorkers, go: Path
) -> None:
    """Longer than the test may take between two heartbeats."""
    node = await cluster.node()
    worker = cluster.worker(node, pace=attrs.evolve(QUICK, beat=3_600.0), stop_grace=0.0)
    await node.want(waiting(go))
    await node.until(lambda: node.store.started(1))
    await node.want()
    ghost = HeldAttempt(job(1), 1, 1, False, True)
    await node.until(lambda: node.named() == [(ghost,)])
    await eventually(Path(f"{go}.pid").exists)
    pid = pid_in(Path(f"{go}.pid"))
    await worker.end()
    assert alive(pid)
    node.ends.add((job(1), 1))
    again = cluster.worker(node, pace=attrs.evolve(QUICK, beat=3_600.0), stop_grace=0.0)
    await eventually(lambda: not alive(pid))
    await eventually(lambda: again.remote.ghosts == ())
    assert node.named()[1] == (ghost,), "found again at the connect"


async def test_a_heartbeat_says_what_is_in_quarantine(cluster: NodesAndWorkers) -> None:
    node = await cluster.node()
    damaged = cluster.folder / "data" / "worker" / "quarantine" / "w1-1-1"
    damaged.mkdir(parents=True)
    (damaged / "why-quarantined").write_text("the record is missing")
    cluster.worker(node)
    said = "1 record of jobs in quarantine, such as w1-1-1: the record is missing"
    await node.until(
        lambda: (said,) in [one.notes for one in node.heard if isinstance(one, wire.Beat)]
    )


async def test_a_drained_worker_waits_for_a_ghost_that_runs_not_for_one_that_has_ended(
    cluster: NodesAndWorkers, go: Path
) -> None:
    node = await cluster.node()
    worker = cluster.worker(node)
    await node.want(waiting(go))
    await node.until(lambda: node.store.started(1))
    await node.want()
    await node.until(node.named)
    await (await node.connected()).say(wire.Drained())
    assert worker.remote.jobs == 1 and not worker.task.done()
    go.touch()
    await worker.ended()


def ends(harness: AgentHarness) -> list[JobFinished]:
    return [one for one in harness.store.reports if isinstance(one, JobFinished)]
