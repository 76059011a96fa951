"""Schedules without a service: what is submitted, what is stored, and when the next look is."""

import asyncio
import contextlib
import json
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from boxsched.api.submitting.branch_patterns import Compiler
from boxsched.api.submitting.known_projects import Known, parsed
from boxsched.automation import schedules as module
from boxsched.automation.schedules import (
    AT_ONCE,
    CLOCK_SLACK_SECONDS,
    LEAST_SECONDS,
    LOOK_SECONDS,
    SUBMITTED_AT_ONCE,
    Schedules,
)
from boxsched.errors import NotFound, StoreAway
from boxsched.model import DEFAULT_ORGANIZATION, OrganizationId, ProjectId, WorkloadId
from boxsched.protocol.schedules import DueSchedule, Firing, Schedule
from boxsched.protocol.shards import SHARD
from boxsched.store.records import NewWorkload, ProjectChanged, Submitted
from tests.organizations import organization as organization_of

NINE = 20_000 * 86_400.0 + 9 * 3_600.0  # 2024-10-04 09:00 UTC
CRON = {"cron": "*/10 * * * *", "branch": "main"}
JOBS = [{"name": "test", "commands": ["make"]}]


def project(id_: int = 3, **settings: Any) -> Any:
    text = json.dumps({"jobs": JOBS, "schedules": [CRON]} | settings)
    return SimpleNamespace(id=ProjectId(id_), name="web", version=7, max_boxes=None, settings=text)


def due(cron: str = "*/10 * * * *", at: float = NINE, **changes: Any) -> DueSchedule:
    return attrs.evolve(
        DueSchedule(ProjectId(3), DEFAULT_ORGANIZATION, "web", Schedule(cron, "", "main"), at),
        **changes,
    )


class Service:
    """A node, its store and its projects; ``now`` is the database's clock."""

    def __init__(self) -> None:
        self.now = NINE + 1.0
        self.due: list[DueSchedule] = []
        self.ahead: list[DueSchedule] = []
        self.unread: list[Any] = []
        self.next_at: float | None = None
        self.projects: dict[str, Any] = {"web": project()}
        self.submitted: list[NewWorkload] = []
        self.outcomes: list[Any] = []
        self.settled: list[Firing] = []
        self.dropped: list[DueSchedule] = []
        self.anew: list[Any] = []
        self.asked: list[Any] = []
        self.rounds = 0
        self.away = 0
        self.took = 0.0
        self.at_once = self.most = 0
        self.gate = asyncio.Event()  # of submissions that do not fail
        self.gate.set()
        self.store = self
        self.clock = SimpleNamespace(now=lambda: 50.0, monotonic=self.monotonic)
        self.schedules_due = asyncio.Event()
        self.leadership = SimpleNamespace(led={SHARD})
        self._monotonic = 100.0

    def monotonic(self) -> float:
        self._monotonic, before = self._monotonic + self.took, self._monotonic
        return before

    async def time(self) -> float:
        self.rounds += 1
        if self.away:
            self.away -= 1
            raise StoreAway("for the test")
        return self.now

    async def unscheduled(self, limit: int) -> list[Any]:
        assert limit == AT_ONCE
        return self.unread

    async def schedule_anew(self, *values: Any) -> None:
        self.anew.append(values)

    async def ahead_schedules(self, after: float, limit: int) -> list[DueSchedule]:
        self.asked.append(("ahead", after, limit))
        return self.ahead

    async def due_schedules(self, now: float, limit: int) -> list[DueSchedule]:
        self.asked.append(("due", now, limit))
        return self.due

    async def next_schedule(self) -> float | None:
        return self.next_at

    async def settle_schedules(self, firings: list[Firing]) -> None:
        self.settled += firings

    async def drop_schedule(self, gone: DueSchedule) -> None:
        self.dropped.append(gone)

    async def fresh(self, name: str, organization: OrganizationId) -> Known:
        assert organization == DEFAULT_ORGANIZATION
        if name not in self.projects:
            raise NotFound(f"there is no project {name}")
        settings = parsed(self.projects[name].settings)
        globs = await Compiler().compiled(settings)
        return Known.of(self.projects[name], organization_of(), settings, globs)

    async def submit(self, new: NewWorkload) -> Any:
        self.submitted.append(new)
        outcome = self.outcomes.pop(0) if self.outcomes else Submitted(WorkloadId(6), 10, False)
        if isinstance(outcome, Exception):
            raise outcome
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await asyncio.sleep(0)
        await self.gate.wait()
        self.at_once -= 1
        return outcome


@pytest.fixture
def service() -> Service:
    return Service()


def schedules(service: Any) -> Schedules:
    return Schedules(service, service)


async def test_a_due_schedule_submits_one_build(service: Service) -> None:
    service.due = [due()]
    await schedules(service).run_once()
    (new,) = service.submitted
    assert (new.branch, new.project, new.project_version, new.created_at) == ("main", 3, 7, 50.0)
    assert new.submitted_by == "schedule"
    assert new.message == "schedule: */10 * * * * UTC, 2024-10-04T09:00:00+00:00"
    firing, key = new.firing, new.idempotency
    assert firing is not None and key is not None
    assert (firing.planned, firing.next_at, firing.decided_at) == (NINE, NINE + 600.0, NINE + 1.0)
    assert key.scope == "schedule"
    assert key.key.startswith("3/") and key.key.endswith("/2024-10-04T09:00:00+00:00")
    assert service.settled == [], "the build's transaction stores the next time"
    assert service.asked == [
        ("ahead", NINE + 1.0 + CLOCK_SLACK_SECONDS, AT_ONCE), ("due", NINE + 1.0, AT_ONCE),
    ]  # fmt: skip


async def test_the_key_of_a_build_is_of_its_schedule_and_its_time(service: Service) -> None:
    both = [CRON, CRON | {"branch": "next"}, CRON | {"cron": "*/5 * * * *"}]
    service.projects["web"] = project(schedules=both)

    async def key(one: DueSchedule, now: float = NINE + 1.0) -> str:
        service.due, service.now = [one], now
        await schedules(service).run_once()
        found = service.submitted.pop().idempotency
        assert found is not None
        return found.key

    first = await key(due())
    assert await key(due(), NINE + 9.0) == first, "whenever it is processed"
    others = [
        await key(due(schedule=Schedule("*/10 * * * *", "", "next"))),
        await key(due("*/5 * * * *")),
        await key(due(at=NINE + 600.0), NINE + 601.0),
    ]
    assert len({first, *others}) == 4


@pytest.mark.parametrize(
    "outcome", [Submitted(WorkloadId(6), 10, False), ProjectChanged(), object()]
)
async def test_an_answer_that_is_not_of_an_earlier_submission_settles_nothing(
    service: Service, outcome: Any
) -> None:
    service.due, service.outcomes = [due()], [outcome]
    await schedules(service).run_once()
    assert service.settled == []


async def test_a_time_that_had_its_build_gets_no_second_one(service: Service) -> None:
    service.due, service.outcomes = [due()], [Submitted(WorkloadId(6), 10, True)]
    await schedules(service).run_once()
    (settled,) = service.settled
    assert (settled.planned, settled.next_at, settled.due) == (None, NINE + 600.0, NINE)


async def test_a_time_that_is_too_late_is_skipped(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.due, service.now = [due("0 9 * * *")], NINE + 2 * 3_600.0
    service.projects["web"] = project(schedules=[CRON | {"cron": "0 9 * * *"}])
    await schedules(service).run_once()
    assert service.submitted == []
    (settled,) = service.settled
    assert (settled.planned, settled.skipped_at) == (None, NINE)
    assert "no build of web at 0 9 * * * on main since 2024-10-04T09:00:00+00:00" in caplog.text


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"jobs": []}, "it has no jobs"),
        ({"repository": "https://h/x", "schedules": [CRON | {"branch": "a..b"}]}, ".."),
    ],
)
async def test_a_build_that_cannot_be_made_is_skipped_with_the_reason(
    service: Service, settings: dict[str, Any], why: str
) -> None:
    service.projects["web"] = project(**settings)
    branch = "a..b" if "repository" in settings else "main"
    service.due = [due(schedule=Schedule("*/10 * * * *", "", branch))]
    await schedules(service).run_once()
    (settled,) = service.settled
    assert settled.skipped is not None and why in settled.skipped
    assert (settled.planned, settled.next_at) == (None, NINE + 600.0)
    assert service.submitted == []


@pytest.mark.parametrize(
    "one",
    [due(project_name="gone"), due(project=ProjectId(4)), due("*/5 * * * *")],
    ids=["no project", "another project of that name", "not in the settings"],
)
async def test_a_schedule_that_no_settings_name_is_dropped(
    service: Service, one: DueSchedule
) -> None:
    service.due = [one]
    await schedules(service).run_once()
    assert (service.dropped, service.submitted, service.settled) == ([one], [], [])


async def test_only_some_builds_are_submitted_at_a_time(service: Service) -> None:
    service.due = [due()] * (2 * SUBMITTED_AT_ONCE + 1)
    await schedules(service).run_once()
    assert (len(service.submitted), service.most) == (len(service.due), SUBMITTED_AT_ONCE)


async def test_a_failure_leaves_the_rest_to_the_next_round_but_waits_for_its_group(
    service: Service,
) -> None:
    service.due = [due()] * (SUBMITTED_AT_ONCE + 1)
    service.outcomes = [StoreAway("for the test")]
    service.gate.clear()
    round_ = asyncio.create_task(schedules(service).run_once())
    await until(lambda: service.at_once == SUBMITTED_AT_ONCE - 1)
    for _ in range(20):
        await asyncio.sleep(0)
    assert not round_.done()
    service.gate.set()
    with pytest.raises(StoreAway):
        await round_
    assert (len(service.submitted), service.at_once) == (SUBMITTED_AT_ONCE, 0)


async def test_schedules_begin_again_when_the_clock_was_set_back(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.ahead = [due(at=NINE + 9e6)]
    await schedules(service).run_once()
    (settled,) = service.settled
    assert (settled.next_at, settled.due, settled.planned) == (NINE + 600.0, NINE + 9e6, None)
    assert "the clock was set back" in caplog.text


async def test_without_any_ahead_nothing_is_said(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    await schedules(service).run_once()
    assert (service.settled, caplog.text) == ([], "")


async def test_settings_of_an_earlier_program_are_read(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.unread = [project(), project(schedules=[CRON | {"time_zone": "Moon/Sea"}])]
    await schedules(service).run_once()
    good, bad = service.anew
    assert (good[0], good[1], good[3]) == (3, 7, NINE + 1.0)
    (first,) = good[2]
    assert (first.schedule, first.next_at) == (due().schedule, NINE + 600.0)
    assert bad == (3, 7, (), NINE + 1.0)
    assert "the schedules of web cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("next_in", "took", "pause"),
    [
        (None, 0.0, LOOK_SECONDS),
        (3.0, 0.0, 3.0),
        (3.0, 1.0, 2.0),
        (9_999.0, 0.0, LOOK_SECONDS),
        (0.0, 0.0, LEAST_SECONDS),
        (-5.0, 0.0, LEAST_SECONDS),
        (3.0, 4.0, LEAST_SECONDS),
    ],
)
async def test_the_next_look_is_at_the_next_time(
    service: Service, next_in: float | None, took: float, pause: float
) -> None:
    service.next_at = None if next_in is None else service.now + next_in
    service.took = took
    assert await schedules(service).run_once() == pytest.approx(pause)


async def until(what: Any) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110 -- nothing is told of it
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(service: Service) -> Any:
    task = asyncio.create_task(schedules(service).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_the_first_look_is_at_once_and_then_when_something_changed(service: Service) -> None:
    async with running(service):
        await until(lambda: service.rounds == 1)
        service.schedules_due.set()
        await until(lambda: service.rounds == 2)
        assert not service.schedules_due.is_set()


async def test_a_look_comes_again_by_itself(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    async with running(service):
        await until(lambda: service.rounds == 3)


async def test_an_outage_is_tried_again(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.001)
    service.away, service.due = 1, [due()]
    async with running(service):
        await until(lambda: service.submitted)
    assert "schedules wait: for the test" in caplog.text


async def test_a_node_that_does_not_lead_looks_at_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.leadership.led = set()
    async with running(service):
        for _ in range(3):
            service.schedules_due.set()
            await until(lambda: not service.schedules_due.is_set())
        assert service.rounds == 0
        service.leadership.led = {SHARD}
        service.schedules_due.set()
        await until(lambda: service.rounds == 1)
