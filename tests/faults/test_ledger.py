"""The checks of these tests work: each planted violation is found, and a correct run has none."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from boxsched.store.operating.check import check
from tests.faults import processes
from tests.faults.clients import Clients, loaded
from tests.faults.deploy_target import DeployTarget, deploy_target
from tests.faults.job_record import JobRecord
from tests.faults.journal import Answered, Asked, Journal
from tests.faults.members import Node
from tests.faults.program import Program
from tests.faults.waiting import until, until_none


async def journal(folder: Path, *entries: Asked | Answered) -> Journal:
    journal = Journal(folder / "journal")
    for entry in entries:
        await journal.write(entry)
    journal.close()
    return journal


def workload(key: str, state: str = "finished") -> dict[str, Any]:
    return {"message": key, "state": state}


ASKED = Asked("k", "projects/web/builds", {})


async def test_a_correct_journal_has_no_violation(tmp_path: Path) -> None:
    answers = [Answered("k", "a", 503, None), Answered("k", "a", 201, "w1")]
    summary = (await journal(tmp_path, ASKED, *answers)).read()
    assert summary.violations({"w1": workload("k")}) == []
    assert summary.unknown == []


async def test_confirmed_data_that_is_lost_is_found(tmp_path: Path) -> None:
    summary = (await journal(tmp_path, ASKED, Answered("k", "a", 201, "w1"))).read()
    assert "lost" in summary.violations({})[0]


async def test_an_entry_is_on_disk_when_it_is_written_and_many_share_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    journal = Journal(tmp_path / "journal")

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)

    async def write(number: int) -> None:
        await journal.write(Asked(f"k{number}", "projects/web/builds", {}))
        end = (tmp_path / "journal").read_bytes()[: max(synced)]
        assert f'"k{number}"'.encode() in end

    monkeypatch.setattr(os, "fsync", fsync)
    await asyncio.gather(*(write(number) for number in range(50)))
    journal.close()
    assert len(journal.read().asked) == 50
    assert len(synced) < 10


async def test_the_wait_restarts_while_there_is_progress(tmp_path: Path) -> None:
    counts = iter([5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0])

    async def fewer() -> int:
        await asyncio.sleep(0.1)  # in sum more than the time limit
        return next(counts)

    async def as_many() -> int:
        return 3

    await until_none(fewer, "what goes", patience=0.8)
    with pytest.raises(AssertionError, match="no fewer than 3: what stays"):
        await until_none(as_many, "what stays", patience=0.1)


async def test_the_state_of_a_process_is_described(tmp_path: Path) -> None:
    program = Program(tmp_path, "odd", "no-such-command")
    assert program.standing == "was never begun"
    await program.spawn()
    assert await program.ended() == 2
    assert program.standing == "ended: 2"
    assert not program.raised
    worker = Program(tmp_path, "worker", "worker", "--url", "http://127.0.0.1:1", "--token", "no")
    await worker.spawn()
    assert worker.standing.startswith("runs")
    await worker.kill()
    assert worker.standing == "ended by SIGKILL"


async def test_a_key_with_two_workloads_is_found(tmp_path: Path) -> None:
    summary = (await journal(tmp_path, ASKED)).read()
    assert summary.unknown == ["k"]
    assert summary.violations({}) == []
    assert summary.violations({"w1": workload("k")}) == []
    assert len(summary.violations({"w1": workload("k"), "w2": workload("k")})) == 1


async def test_a_key_that_was_answered_two_ids_is_found(tmp_path: Path) -> None:
    answers = [Answered("k", "a", 201, "w1"), Answered("k", "b", 201, "w2")]
    summary = (await journal(tmp_path, ASKED, *answers)).read()
    assert summary.violations({"w1": workload("k")})


async def test_a_job_without_an_end_is_found(tmp_path: Path) -> None:
    summary = (await journal(tmp_path, ASKED, Answered("k", "a", 201, "w1"))).read()
    assert "never ended" in summary.violations({"w1": workload("k", "running")})[0]


def job_record(folder: Path, *lines: str) -> list[str]:
    job_record = JobRecord(folder / "book")
    job_record.path.write_text("".join(f"{line}\n" for line in lines))
    return job_record.violations()


LANE = "build:web:b1"


def test_a_correct_job_record_has_no_violation(tmp_path: Path) -> None:
    assert (
        job_record(
            tmp_path,
            f"w1-1 1 5 10 1.00 w1 {LANE} start",
            f"w1-2 1 5 11 1.00 w1 {LANE} start",
            f"w1-1 1 5 10 1.10 w1 {LANE} tick",
            f"w1-2 1 5 11 1.50 w1 {LANE} end",
            f"w1-1 2 8 12 1.10 w1 {LANE} start",
            f"w1-1 2 8 12 1.60 w1 {LANE} end",
            f"w2-1 1 9 13 1.60 w2 {LANE} start",
        )
        == []
    )


def test_an_attempt_that_started_twice_is_found(tmp_path: Path) -> None:
    lines = [f"w1-1 1 5 1{n} 1.0{n} w1 {LANE} start" for n in range(2)]
    assert "began 2 times" in job_record(tmp_path, *lines)[0]


def test_attempts_that_overlap_and_tokens_that_do_not_grow_are_found(tmp_path: Path) -> None:
    found = job_record(
        tmp_path,
        f"w1-1 1 5 10 1.00 w1 {LANE} start",
        f"w1-1 2 5 11 1.05 w1 {LANE} start",
        f"w1-1 1 5 10 1.10 w1 {LANE} tick",
    )
    assert "attempts at w1-1 overlap" in found[0]
    assert "do not grow" in found[1]


def test_two_workloads_in_a_lane_at_once_are_found(tmp_path: Path) -> None:
    found = job_record(
        tmp_path,
        f"w1-1 1 5 10 1.00 w1 {LANE} start",
        f"w2-1 1 6 11 1.05 w2 {LANE} start",
        f"w1-1 1 5 10 1.10 w1 {LANE} end",
    )
    assert f"workloads of {LANE} overlap" in found[0]


def deployed(target: DeployTarget, token: int, job: str) -> int:
    environment = {
        "BOXSCHED_PROJECT": "web",
        "BOXSCHED_SERVER": "s1",
        "BOXSCHED_JOB": job,
        "BOXSCHED_ATTEMPT": "1",
        "BOXSCHED_LEASE_TOKEN": str(token),
    }
    return subprocess.run(["bash", "-ec", target.command], env=environment, check=False).returncode


async def test_the_deploy_target_refuses_lower_tokens() -> None:
    async with deploy_target() as target:
        for token, status in ((5, 0), (7, 0), (6, 1), (7, 0)):
            assert await asyncio.to_thread(deployed, target, token, "w1-1") == status
        assert [effect.token for effect in target.refused] == [6]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.clear(tmp_path)


async def test_the_checks_pass_for_one_node_that_is_killed_under_load(folder: Path) -> None:
    """The same checks without a cluster."""
    node = Node(folder, "node", "--boxes", "2")
    job_record = JobRecord(folder / "book")
    await node.start()
    clients = Clients([node.url], node.token, folder / "journal")
    settings = {
        "jobs": [job_record.job("j", 0.1)],
        "servers": {"s0": {"jobs": [job_record.job("d", 0.05)]}},
    }
    await clients.ask("PUT", "projects/web", settings)
    async with loaded(clients, rate=8, servers=1) as load:
        for _ in range(2):
            await load.more(8)
            await node.kill()
            await node.start()

    async def look() -> bool:
        activity = await clients.get("activity")
        return not (activity["upcoming"] or activity["blocked"] or activity["running"])

    await until(look, "nothing is unfinished")
    summary = clients.journal.read()
    assert summary.violations(await clients.workloads()) == []
    assert job_record.violations() == []
    assert summary.unknown == [] and len(summary.asked) >= 16
    await clients.close()
    assert await node.terminate() == 0
    assert await check(f"sqlite:///{node.data / 'boxsched.sqlite'}") == []
