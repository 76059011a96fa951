"""Parts of the agent by themselves: waiting Boxes, answers, notes, and reading logs for sending."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest

from boxsched.model import BoxId, JobId, Kind, WorkloadId
from boxsched.protocol.assignments import Assignment
from boxsched.states import Result
from boxsched.worker.agent import answers, reporting
from boxsched.worker.agent.answers import PATIENCE_SECONDS, Answers
from boxsched.worker.agent.attempt import Phase
from boxsched.worker.agent.attempt_folder import AttemptFolder
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.occupancy import Occupancy
from boxsched.worker.agent.outbox import Report
from boxsched.worker.agent.reporting import REPEAT_SECONDS, Reporting
from boxsched.worker.agent.spool import CHUNK_BYTES, Spool, most_bytes
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import safe_files
from boxsched.worker.supervisor.folder import Ended, Found, Note, Running, Started
from boxsched.worker.supervisor.safe_files import Damaged


def wanted(job: int = 1, token: int = 7, ordinal: int = 1) -> Assignment:
    return Assignment(
        JobId(job), 1, token, BoxId(ordinal), ordinal, False, 60.0, "unit", ("true",), {},
        WorkloadId(1), 1, Kind.BUILD, "web", "main", None, None, None, None,
    )  # fmt: skip


def key(one: Assignment) -> tuple[JobId, int]:
    return one.job, one.lease_token


# --- Boxes ----------------------------------------------------------------------------------


def test_a_box_waits_for_running_attempts_and_for_attempts_on_unknown_boxes() -> None:
    occupancy = Occupancy()
    first, second, new = wanted(1, ordinal=1), wanted(2, ordinal=2), wanted(3, ordinal=1)
    occupancy.note({key(one): one for one in (first, second)}, [])
    assert not occupancy.held_up(new, [])
    assert occupancy.held_up(new, [key(second), key(first)])
    assert not occupancy.held_up(new, [key(second)])
    assert occupancy.held_up(new, [(JobId(99), 1)]), "it may be on any Box"


def test_the_box_of_a_job_that_is_no_longer_desired_is_known_while_the_job_is_here() -> None:
    occupancy = Occupancy()
    old, new = wanted(1, ordinal=2), wanted(2, ordinal=1)
    occupancy.note({key(old): old}, [])
    occupancy.note({key(new): new}, [key(old)])
    assert not occupancy.held_up(new, [key(old)])
    occupancy.note({key(new): new}, [])
    assert occupancy.held_up(new, [key(old)]), "it was forgotten"
    moved = attrs.evolve(new, ordinal=3)
    occupancy.note({key(new): moved}, [key(new)])
    assert occupancy.held_up(wanted(4, ordinal=3), [key(new)])


# --- Answers --------------------------------------------------------------------------------


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set the monotonic clock that answers use."""
    clock = [100.0]
    monkeypatch.setattr(answers.time, "monotonic", lambda: clock[0])

    def set_to(now: float) -> None:
        clock[0] = now

    return set_to


def test_an_answer_is_reported_once_and_again_after_its_time(time: Callable[[float], None]) -> None:
    given = Answers(lambda: 5.0)
    given.add(wanted(), Result.FAILED, "no git", not_begun=True)
    (said,) = given.unreported
    assert (said.job, said.lease_token, said.at, said.result) == (1, 7, 5.0, Result.FAILED)
    assert (said.reason, said.lost, said.not_begun) == ("no git", True, True)
    assert key(wanted()) in given and key(wanted(2)) not in given
    given.repeat(200.0)
    assert given.unreported == [said], "it waits to be said already"
    given.unreported.clear()
    time(150.0)
    given.repeat(100.0)
    assert given.unreported == [], "it was said at that time, not before"
    given.repeat(100.5)
    assert given.unreported == [said]
    given.unreported.clear()
    given.repeat(150.0)
    assert given.unreported == [], "the repetition counts"


def test_answers_and_patience_are_forgotten_with_their_jobs() -> None:
    given = Answers(lambda: 5.0)
    for job in (1, 2):
        given.add(wanted(job), Result.STOPPED, "asked", not_begun=False)
        assert not given.gives_up(wanted(job), 10.0)
    assert (given.unreported[0].lost, given.unreported[0].not_begun) == (False, False)
    given.keep([key(wanted(2))])
    assert key(wanted(1)) not in given and key(wanted(2)) in given
    late = 10.0 + PATIENCE_SECONDS
    assert not given.gives_up(wanted(2), late)
    assert given.gives_up(wanted(2), late + 0.001)
    assert not given.gives_up(wanted(1), late + 0.001), "its time begins anew"
    given.unreported.clear()
    given.repeat(float("inf"))
    assert [one.job for one in given.unreported] == [2]


def test_an_end_is_reported_again_only_while_the_job_is_desired_and_not_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reporting.time, "monotonic", lambda: 1_000.0)
    given = Answers(lambda: 5.0)
    given.add(wanted(9), Result.FAILED, "no git", not_begun=True)
    given.unreported.clear()
    old, new = 1_000.0 - REPEAT_SECONDS - 0.001, 1_000.0 - REPEAT_SECONDS
    attempts = {
        key(wanted(1)): SimpleNamespace(phase=Phase.REPORTED, reported_at=old),
        key(wanted(2)): SimpleNamespace(phase=Phase.REPORTED, reported_at=new),
        key(wanted(3)): SimpleNamespace(phase=Phase.REPORTED, reported_at=old),
        key(wanted(4)): SimpleNamespace(phase=Phase.RUNNING, reported_at=old),
    }
    desired = [key(wanted(job)) for job in (1, 2, 4)]
    repeating = Reporting(cast(Any, None), cast(Any, None), given)
    repeating.repeat(desired, cast(Any, attempts))
    assert [one.phase for one in attempts.values()] == [
        Phase.ENDED, Phase.REPORTED, Phase.REPORTED, Phase.RUNNING,
    ]  # fmt: skip
    assert given.unreported == [], "it was said just now"
    monkeypatch.setattr(reporting.time, "monotonic", lambda: 1_000.001 + REPEAT_SECONDS)
    repeating.repeat(desired, {})
    assert [one.job for one in given.unreported] == [9]


class Told:
    """Stands in for the agent's readiness, and for its connection to the nodes."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def suspected(self) -> None:
        self.said.append("suspected")

    def begun(self) -> None:
        self.said.append("begun")

    def found(self, problem: str) -> None:
        self.said.append(f"found: {problem}")

    async def publish(self) -> None:
        self.said.append("published")

    async def report(self, reports: Sequence[Report]) -> None:
        self.said.append(f"reported: {len(reports)}")


PASSED = Ended("passed", 0, None, False, None, None, 1.0)
NOT_BEGUN = PASSED._replace(result="failed", reason="no git", not_begun=True)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ((PASSED,), ["begun", "reported: 1"]),
        ((PASSED._replace(result="failed", reason="exit status 1"),), ["begun", "reported: 1"]),
        ((PASSED._replace(result="stopped"),), ["reported: 1"]),
        ((PASSED._replace(result="failed", lost=True),), ["reported: 1"]),
        ((PASSED._replace(result="failed", reason=files.DISK_FULL),), ["suspected", "reported: 1"]),
        ((NOT_BEGUN,), ["found: no git", "published", "reported: 1"]),
        ((NOT_BEGUN._replace(reason=None),), ["found: ", "published", "reported: 1"]),
        (
            (NOT_BEGUN, PASSED, NOT_BEGUN._replace(reason="no room")),
            ["begun", "found: no git", "found: no room", "published", "reported: 3"],
        ),
    ],
)
async def test_the_ends_of_jobs_show_problems_of_the_machine(
    ended: tuple[Ended, ...], said: list[str]
) -> None:
    """A node knows of a problem before the jobs that could not start because of it."""
    attempts: list[Any] = [
        SimpleNamespace(
            key=(JobId(n), 1), ended=one, phase=Phase.ENDED, running=None, start_reported=False,
            spool=SimpleNamespace(all_stored=True), reported_at=0.0, parked=False, kept=True,
        )
        for n, one in enumerate(ended)
    ]  # fmt: skip
    told: Any = Told()
    assert await Reporting(told, told, Answers(lambda: 5.0)).report(attempts)
    assert told.said == said
    assert {one.phase for one in attempts} == {Phase.REPORTED}


# --- Notes ----------------------------------------------------------------------------------

ENDED = Ended("passed", 255, None, False, None, 0.0, 1e11, None, False, 0.0)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    at = safe_files.open_folder(str(tmp_path))
    yield at
    os.close(at)


@pytest.mark.parametrize(
    "said",
    [
        Started(1, None),
        Started((1 << 31) - 1, 5),
        Running(0.0, True),
        Running(1e11, False),
        Found("a" * 40),
        Found("b" * 64),
        ENDED,
        ENDED._replace(began_at=None, seconds=None, exit_status=None),
        ENDED._replace(exit_status=0),
    ],
)
def test_a_note_is_read_as_it_was_written(folder: int, tmp_path: Path, said: Note) -> None:
    assert note(folder, "x", type(said)) is None
    (tmp_path / "x").write_text(json.dumps(said))
    assert note(folder, "x", type(said)) == said


@pytest.mark.parametrize(
    "said",
    [
        Started(0, None),
        Started(1 << 31, None),
        Running(-0.5, True),
        Running(1.1e11, True),
        Found("a" * 39),
        Found("A" * 40),
        ENDED._replace(at=-1.0),
        ENDED._replace(at=1.1e11),
        ENDED._replace(began_at=-1.0),
        ENDED._replace(seconds=-1.0),
        ENDED._replace(exit_status=-1),
        ENDED._replace(exit_status=256),
        ENDED._replace(result="odd"),  # type: ignore[arg-type]
    ],
)
def test_an_impossible_note_is_damage(folder: int, tmp_path: Path, said: Note) -> None:
    (tmp_path / "x").write_text(json.dumps(said))
    with pytest.raises(Damaged, match=r"^x "):
        note(folder, "x", type(said))


# --- Sending a log --------------------------------------------------------------------------


class Log:
    def __init__(self, folder: Path, limit: int) -> None:
        (folder / "w1-1-1").mkdir()
        self.file, self.sent = folder / "w1-1-1" / files.LOG, folder / "w1-1-1" / files.SENT
        self.file.touch()
        self.sent.write_bytes(b" " * files.RESERVED_BYTES)
        self.site = safe_files.open_folder(str(folder))
        self.folder = AttemptFolder(self.site, f"{folder}/w1-1-1")
        self.limit = limit
        self.opened: list[Spool] = []

    def spool(self) -> Spool:
        """A reader of an agent that continues the work of an earlier one."""
        spool = Spool(self.folder, self.limit)
        self.opened.append(spool)
        spool.open()
        spool.go_on()
        return spool

    def noted(self) -> list[int]:
        return [int(word) for word in self.sent.read_bytes().split()]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    made = Log(tmp_path, 1 << 20)
    yield made
    for spool in made.opened:
        spool.close()
    made.folder.close()
    os.close(made.site)


def test_a_log_is_read_in_parts_and_each_part_repeats_until_it_is_stored(log: Log) -> None:
    spool = log.spool()
    assert (spool.next(), spool.all_stored) == (None, True)
    log.file.write_bytes(b"x" * CHUNK_BYTES + b"yz")
    assert not spool.all_stored
    first = (0, b"x" * CHUNK_BYTES)
    assert [spool.next(), spool.next()] == [first, first]
    assert log.noted() == [0, CHUNK_BYTES]
    spool.stored()
    assert spool.next() == (CHUNK_BYTES, b"yz")
    assert not spool.all_stored
    with log.file.open("ab") as file:
        file.write(b"more")
    assert spool.next() == (CHUNK_BYTES, b"yz"), "the same bounds"
    spool.stored()
    assert not spool.all_stored
    assert spool.next() == (CHUNK_BYTES + 2, b"more")
    spool.stored()
    assert (spool.next(), spool.all_stored) == (None, True)


def test_a_later_agent_sends_the_same_part_again(log: Log) -> None:
    log.file.write_bytes(b"abc")
    assert log.spool().next() == (0, b"abc")
    with log.file.open("ab") as file:
        file.write(b"d")
    later = log.spool()
    assert later.next() == (0, b"abc")
    later.stored()
    assert later.next() == (3, b"d")
    assert log.noted() == [3, 4]


@pytest.mark.parametrize(
    ("text", "fine"),
    [
        (b"", True),
        (b"5", True),
        (b"x 5", True),
        (b"5 x", True),
        (b"0 0", True),
        (b"5 5", True),
        (b"0 %d" % CHUNK_BYTES, True),
        (b"0 %d" % (CHUNK_BYTES + 1), False),
        (b"6 5", False),
        (b"%d %d" % (most_bytes(1 << 20) - 1, most_bytes(1 << 20)), True),
        (b"%d %d" % (most_bytes(1 << 20), most_bytes(1 << 20) + 1), False),
    ],
)
def test_a_forged_sent_file_is_damage(log: Log, text: bytes, fine: bool) -> None:
    log.sent.write_bytes(text.ljust(files.RESERVED_BYTES))
    if fine:
        assert log.spool().next() is None
    else:
        with pytest.raises(Damaged):
            log.spool()


def test_no_more_than_the_limit_and_its_marks_is_sent(tmp_path: Path) -> None:
    log = Log(tmp_path, 10)
    log.file.write_bytes(b"x" * (most_bytes(10) + 1))
    spool = log.spool()
    assert spool.next() == (0, b"x" * most_bytes(10))
    spool.stored()
    assert (spool.next(), spool.all_stored) == (None, True)
    spool.close()
    log.folder.close()
    os.close(log.site)


def test_a_log_that_its_job_cut_has_no_new_output(log: Log) -> None:
    log.file.write_bytes(b"abc")
    spool = log.spool()
    assert spool.next() == (0, b"abc")
    log.file.write_bytes(b"")
    assert spool.next() is None
    log.file.write_bytes(b"new")
    assert spool.next() == (0, b"new")


def test_a_removed_log_counts_as_stored_at_the_next_read(log: Log) -> None:
    spool = log.spool()
    log.file.write_bytes(b"abc")
    spool.close()
    assert not spool.all_stored
    assert spool.next() == (0, b"abc"), "it is opened again"
    spool.close()
    log.file.unlink()
    assert (spool.next(), spool.all_stored) == (None, True)
