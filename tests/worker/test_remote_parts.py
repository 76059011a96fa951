"""Parts of an external worker that need no node."""

import asyncio
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest

from boxsched.model import JobId
from boxsched.protocol import wire
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result
from boxsched.worker.agent import attempt_watcher, outbox
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.outbox import LogChunk, Report
from boxsched.worker.agent.site import FolderInUse
from boxsched.worker.remote import connecting
from boxsched.worker.remote import identity as keeping
from boxsched.worker.remote.messages import log_messages, report_messages
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.worker import RemoteWorker
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import supervision
from boxsched.worker.supervisor.folder import Ended, Running
from boxsched.worker.supervisor.safe_files import Damaged
from tests.lingering import Lingering
from tests.worker.harness import at

# --- Pace -----------------------------------------------------------------------------------


def test_a_short_lease_needs_more_frequent_heartbeats() -> None:
    assert Pace().of(120.0) == Pace()
    quick = Pace().of(2.0)
    assert 3 * quick.beat < 2.0
    assert attrs.evolve(quick, beat=Pace().beat) == Pace()


# --- The worker's problem -------------------------------------------------------------------


def test_a_worker_reports_its_agents_problem_as_one_short_line() -> None:
    nothing: Any = None
    worker = RemoteWorker(nothing, nothing, connected=nothing, chance=random.Random(1), pace=Pace())
    assert worker.problem is None, "it has no agent yet"
    worker.__dict__["_agent"] = agent = SimpleNamespace(problem=None)
    assert worker.problem is None
    agent.problem = "no\nroom " + "x" * 500
    assert worker.problem == "no?room " + "x" * 192


async def test_all_of_a_workers_tasks_have_ended_when_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No part of it acts when the folder is another process's."""
    nothing: Any = None
    options: Any = SimpleNamespace(data=tmp_path)
    follower, connection, discovery = Lingering(), Lingering(), Lingering()
    worker = RemoteWorker(
        options, cast(Any, SimpleNamespace(run=discovery.work)), connected=nothing,
        chance=random.Random(1), pace=Pace(),
    )  # fmt: skip
    monkeypatch.setattr(worker, "_follow", follower.work)
    monkeypatch.setattr(worker._connection, "run", connection.work)
    running = asyncio.create_task(worker.run())
    for each in (follower, connection, discovery):
        await each.begun.wait()
    worker.stop()
    await running
    assert follower.ended and connection.ended and discovery.ended


# --- What is logged during an outage --------------------------------------------------------


def test_a_problem_is_logged_once_and_then_once_a_minute(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1_000.0
    monkeypatch.setattr(
        connecting.asyncio, "get_running_loop", lambda: SimpleNamespace(time=lambda: now)
    )
    problems = connecting.ProblemLog()

    def added(*what: str) -> list[str]:
        caplog.clear()
        for each in what:
            problems.add(each)
        return [record.getMessage() for record in caplog.records]

    assert added("away", "away") == ["away"]
    now += 30.0
    assert added("refused", "away") == ["refused"], "each problem at once"
    now += 59.9
    assert added("away", "refused") == []
    now += 0.1
    assert added("away", "refused") == ["away (try 7 in 90 s)"], "a minute after the last line"
    now += 59.9
    assert added("away") == []
    problems.end()
    assert added("away", "away") == ["away"], "the next outage"
    now += 60.0
    assert added("away") == ["away (try 3 in 60 s)"]


@pytest.mark.parametrize(("nodes", "said"), [(1, "trying again"), (2, "trying another")])
async def test_the_message_about_a_lost_connection_ends_with_the_next_step(
    nodes: int, said: str
) -> None:
    discovery: Any = SimpleNamespace(nodes=("node",) * nodes)
    loop = connecting.ConnectionLoop(
        cast(Any, None), discovery, chance=random.Random(1), pace=Pace()
    )
    assert loop._next() == said


# --- Times ----------------------------------------------------------------------------------


def test_a_worker_waits_for_these_times() -> None:
    """Nodes of other versions go by some; longer ones delay jobs, shorter ones are load."""
    assert attrs.asdict(Pace()) == {
        "connect": 10.0, "beat": 5.0, "silence": 15.0, "first_wait": 0.1, "longest_wait": 5.0,
        "longest_wait_unheard": 2.0, "leave": 0.5, "refused": 30.0, "look": 2.0,
        "steady": 5.0, "flush": 2.0,
    }  # fmt: skip
    assert (outbox.FIRST_WAIT_SECONDS, outbox.LONGEST_WAIT_SECONDS) == (0.1, 5.0)
    assert (attempt_watcher.ASK_AGAIN_SECONDS, attempt_watcher.ASK_TIMES) == (2.0, 5)
    assert supervision.STOP_LOOK_SECONDS == 1.0, "jobs end so long after their lease, at most"
    assert connecting.REPEAT_PROBLEM_SECONDS == 60.0


# --- Messages -------------------------------------------------------------------------------


def finished(job: int, reason: str | None) -> JobFinished:
    return JobFinished(job, 1, 1e9 / 3, Result.FAILED, None, reason)


def said(reports: list[Report]) -> list[wire.Said]:
    return [sentence(7) for sentence in report_messages(reports)]  # type: ignore[misc]


def test_few_reports_go_in_one_message() -> None:
    reports: list[Report] = [JobStarted(1, 2, 3.0), finished(1, None), finished(2, "exit status 1")]
    assert said(reports) == [wire.Said(7, tuple(reports))]
    assert said([]) == []


def test_no_message_is_larger_than_a_node_accepts() -> None:
    reports: list[Report] = [finished(i, "\x01\u2028" * 300) for i in range(5_000)]
    reports += [JobStarted(2**62, 2**62, 1e9 / 3) for _ in range(25_000)]
    messages = said(reports)
    assert sum(len(message.reports) for message in messages) == len(reports)
    for message in messages:
        assert len(wire.encode(message)) <= wire.MAX_WORKER_MESSAGE_BYTES
        assert wire.from_worker.decode(wire.encode(message)) == message
    chunks: list[LogChunk] = [(JobId(i), 1, 0, b"\xff" * (64 << 10)) for i in range(30)]
    chunks += [(JobId(i), 1, 0, b"x") for i in range(200)]
    parts = [sentence(7) for sentence in log_messages(chunks)]
    assert 4 <= len(parts) <= 8
    for part in parts:
        assert len(wire.encode(part)) <= wire.MAX_WORKER_MESSAGE_BYTES
        assert wire.from_worker.decode(wire.encode(part)) == part


@pytest.mark.parametrize(
    ("report", "count", "sizes"),
    [
        (JobStarted(1, 2, 3.0), 12_000, [10_912, 1_088]),
        (finished(1, None), 5_000, [4_092, 908]),
        (finished(1, "x" * 500), 700, [321, 321, 58]),
        (finished(1, "x" * 1_000), 322, [321, 1]),
    ],
)
def test_a_message_has_as_many_reports_as_fit(report: Report, count: int, sizes: list[int]) -> None:
    assert [len(message.reports) for message in said([report] * count)] == sizes


@pytest.mark.parametrize(
    ("size", "count", "sizes"),
    [(1, 130, [64, 64, 2]), (30_000, 60, [26, 26, 8]), (64 << 10, 13, [11, 2])],
)
def test_a_message_has_as_many_pieces_of_logs_as_fit(
    size: int, count: int, sizes: list[int]
) -> None:
    messages = log_messages([(JobId(1), 1, 0, b"x" * size)] * count)
    assert [len(message(7).chunks) for message in messages] == sizes  # type: ignore[union-attr]


def test_a_reason_of_exactly_the_greatest_length_is_sent_unchanged() -> None:
    (message,) = said([finished(1, "x" * 500), finished(2, "x" * 501), finished(3, "")])
    assert [report.reason for report in message.reports] == ["x" * 500, "x" * 500, ""]  # type: ignore[union-attr]


def test_a_reason_is_one_line_of_limited_length() -> None:
    (message,) = said([finished(1, "a\0b\nc" + "x" * 1_000)])
    report = message.reports[0]
    assert isinstance(report, JobFinished)
    assert report.reason == "a?b?c" + "x" * 495


# --- Files that a job may have written ------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        (files.RUNNING, Running, "[1e300, true]"),
        (files.RESULT, Ended, '["passed", 0, null, false, null, 1.0, 1e300, null]'),
        (files.RESULT, Ended, '["passed", 0, null, false, null, -5.0, 2.0, null]'),
        (files.RESULT, Ended, '["passed", 4294967296, null, false, null, 1.0, 2.0, null]'),
    ],
)
def test_a_note_that_no_node_accepts_is_damage(
    tmp_path: Path, name: str, kind: type[Running | Ended], text: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(Damaged):
        note(at(tmp_path), name, kind)  # type: ignore[type-var]


# --- Identity -------------------------------------------------------------------------------


def test_an_identity_is_created_once(tmp_path: Path) -> None:
    one = keeping.identity(tmp_path)
    assert keeping.identity(tmp_path) == one
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o600
    (tmp_path / "identity").unlink()
    assert keeping.identity(tmp_path) != one


@pytest.mark.parametrize("text", [b"", b"short", b"\xff" * 32, b"x" * 5_000])
def test_a_damaged_identity_is_reported(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "identity").write_bytes(text)
    with pytest.raises(keeping.Unusable, match="identity"):
        keeping.identity(tmp_path)


def test_a_half_written_identity_is_not_an_identity(tmp_path: Path) -> None:
    (tmp_path / "identity.new").write_text("0123")
    assert len(keeping.identity(tmp_path)) == 32


def test_the_cluster_is_remembered(tmp_path: Path) -> None:
    assert keeping.cluster(tmp_path) is None
    keeping.keep_cluster(tmp_path, "ours")
    keeping.keep_cluster(tmp_path, "theirs")
    assert keeping.cluster(tmp_path) == "theirs"


def test_a_data_folder_has_one_process(tmp_path: Path) -> None:
    with (
        keeping.owned(tmp_path / "new"),
        pytest.raises(FolderInUse, match="new"),
        keeping.owned(tmp_path / "new"),
    ):
        pass
    with keeping.owned(tmp_path / "new"):
        pass


def test_the_files_of_a_workers_identity_are_closed(tmp_path: Path) -> None:
    with keeping.owned(tmp_path):
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(3):
            keeping.identity(tmp_path)
            keeping.keep_cluster(tmp_path, "ours")
            assert keeping.cluster(tmp_path) == "ours"
        with pytest.raises(FolderInUse), keeping.owned(tmp_path):
            pass
        assert len(os.listdir("/proc/self/fd")) == before
    assert len(os.listdir("/proc/self/fd")) == before - 1, "the lock is gone"
