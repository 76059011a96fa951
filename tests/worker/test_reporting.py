"""The reports of a worker's attempts: when each is due, how often, and what it says."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from boxsched.errors import StoreAway
from boxsched.model import JobId
from boxsched.protocol.inbox import JobFinished, JobStarted
from boxsched.states import Result
from boxsched.worker.agent import reporting
from boxsched.worker.agent.answers import Answers
from boxsched.worker.agent.attempt import Attempt, Phase
from boxsched.worker.agent.outbox import Report
from boxsched.worker.agent.reporting import Reporting, end_report, start_report
from boxsched.worker.supervisor.folder import Ended, Record, Running
from tests.worker.harness import assigned, job

PASSED = Ended("passed", 0, None, False, None, 5.0, 9.0, "a" * 40, False, 4.0)


def attempt(number: int, **values: Any) -> Any:
    """A running attempt, as far as reports need one."""
    folder: Any = SimpleNamespace(name=f"w{number}-1-1")
    record = Record("c", number, 1, 7, "boot", 60.0, 1 << 20, None, {}, [])
    made: Any = Attempt(folder, record, Phase.RUNNING)
    made.spool = SimpleNamespace(all_stored=True)
    for name, value in values.items():
        setattr(made, name, value)
    return made


class Outbox:
    def __init__(self) -> None:
        self.said: list[Report] = []
        self.away = False

    async def report(self, reports: Sequence[Report]) -> None:
        if self.away:
            raise StoreAway("for the test")
        self.said += reports


class Quiet:
    """A readiness that hears nothing of interest."""

    def begun(self) -> None: ...


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def answers() -> Answers:
    return Answers(lambda: 3.0)


@pytest.fixture
def reports(outbox: Any, answers: Answers) -> Reporting:
    quiet: Any = Quiet()
    return Reporting(outbox, quiet, answers)


async def test_a_start_and_an_end_are_each_reported_once(
    reports: Reporting, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporting.time, "monotonic", lambda: 1_000.0)
    one = attempt(1)
    assert not await reports.report([one])
    one.running = Running(5.0, True)
    assert not await reports.report([one]), "nothing has ended"
    assert not await reports.report([one])
    assert outbox.said == [JobStarted(JobId(1), 7, 5.0)]
    one.ended, one.phase = PASSED, Phase.ENDED
    assert await reports.report([one])
    assert not await reports.report([one])
    assert [type(said) for said in outbox.said] == [JobStarted, JobFinished]
    assert (one.phase, one.reported_at) == (Phase.REPORTED, 1_000.0)


async def test_what_could_not_be_reported_is_reported_again(
    reports: Reporting, outbox: Outbox, answers: Answers
) -> None:
    """Starts, ends and answers."""
    began = attempt(1, running=Running(5.0, True))
    ended = attempt(2, ended=PASSED, phase=Phase.ENDED)
    answers.add(assigned(3), Result.FAILED, "no git", not_begun=False)
    outbox.away = True
    for _ in range(2):
        with pytest.raises(StoreAway):
            await reports.report([began, ended])
    assert (began.start_reported, ended.phase) == (False, Phase.ENDED)
    outbox.away = False
    assert await reports.report([began, ended])
    assert not await reports.report([began, ended])
    assert [(type(said), said.job) for said in outbox.said] == [
        (JobFinished, job(3)), (JobStarted, 1), (JobStarted, 2), (JobFinished, 2),
    ]  # fmt: skip
    assert answers.unreported == []


async def test_an_answer_that_comes_during_a_report_is_not_lost(
    reports: Reporting, outbox: Outbox, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.add(assigned(1), Result.FAILED, "no git", not_begun=False)
    later = [2]

    async def slow(said: Sequence[Report]) -> None:
        outbox.said += said
        while later:
            answers.add(assigned(later.pop()), Result.FAILED, "no git", not_begun=False)

    monkeypatch.setattr(outbox, "report", slow)
    assert not await reports.report([])
    assert [said.job for said in answers.unreported] == [job(2)]
    assert not await reports.report([])
    assert [said.job for said in outbox.said] == [job(1), job(2)]


def test_a_job_began_when_its_supervisor_says_so() -> None:
    assert start_report(attempt(1)) is None
    assert start_report(attempt(1, ended=PASSED)) == JobStarted(JobId(1), 7, 5.0)
    never = PASSED._replace(began_at=None)
    assert start_report(attempt(1, ended=never)) is None
    both = attempt(1, running=Running(4.0, True), ended=PASSED)
    assert start_report(both) == JobStarted(JobId(1), 7, 4.0)


def test_an_end_is_due_when_all_of_the_log_is_stored() -> None:
    one = attempt(1, ended=PASSED, phase=Phase.ENDED)
    one.spool.all_stored = False
    assert end_report(one) is None
    one.spool.all_stored = True
    assert end_report(one) is not None
    for phase in set(Phase) - {Phase.ENDED}:
        one.phase = phase
        assert end_report(one) is None
    assert end_report(attempt(1, phase=Phase.ENDED)) is None


FAILED = PASSED._replace(result="failed", exit_status=3, reason="exit status 3", commit=None)


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        (PASSED, (9.0, Result.PASSED, 0, None, "a" * 40, False, 4.0, False)),
        (FAILED, (9.0, Result.FAILED, 3, "exit status 3", None, False, 4.0, False)),
        (FAILED._replace(commit="main"),
         (9.0, Result.FAILED, 3, "exit status 3", None, False, 4.0, False)),
        (FAILED._replace(lost=True),
         (9.0, Result.FAILED, 3, "exit status 3", None, True, 4.0, False)),
        (FAILED._replace(not_begun=True, seconds=None),
         (9.0, Result.FAILED, 3, "exit status 3", None, True, None, True)),
        (PASSED._replace(result="stopped", exit_status=None, reason="stopped"),
         (9.0, Result.STOPPED, None, "stopped", "a" * 40, False, 4.0, False)),
    ],
)  # fmt: skip
def test_an_end_says_all_that_its_supervisor_noted(ended: Ended, said: tuple[Any, ...]) -> None:
    report = end_report(attempt(1, ended=ended, phase=Phase.ENDED))
    assert report == JobFinished(JobId(1), 7, *said)


def test_a_session_begins_when_the_store_knows_how_to_reach_it_or_when_it_has_ended() -> None:
    one = attempt(1, running=Running(5.0, True))
    plan: Any = SimpleNamespace()
    one.record = one.record._replace(session=plan)
    assert start_report(one) is None
    one.open_reported = True
    assert start_report(one) == JobStarted(JobId(1), 7, 5.0)
    one.open_reported, one.ended = False, PASSED
    assert start_report(one) == JobStarted(JobId(1), 7, 5.0)
