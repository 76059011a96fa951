"""What a due schedule does: one build for its latest time, or none if that was too long ago."""

import pytest

from boxsched.automation.firings import (
    LATE_SECONDS,
    LOOK_AGAIN_SECONDS,
    after_clock_change,
    firing,
    skip_due_times,
)
from boxsched.model import DEFAULT_ORGANIZATION, ProjectId
from boxsched.protocol.schedules import DueSchedule, Schedule

HOUR, DAY = 3_600.0, 86_400.0
NINE = 20_000 * DAY + 9 * HOUR  # 2024-10-04 09:00 UTC


def due(cron: str = "*/10 * * * *", at: float = NINE, zone: str = "") -> DueSchedule:
    return DueSchedule(ProjectId(3), DEFAULT_ORGANIZATION, "web", Schedule(cron, zone, "main"), at)


@pytest.mark.parametrize("late", [0.0, 1.0, 599.9])
def test_a_single_time_is_built_and_the_next_one_follows(late: float) -> None:
    one = due()
    found = firing(one, NINE + late)
    assert (found.planned, found.next_at, found.due) == (NINE, NINE + 600.0, NINE)
    assert (found.skipped, found.skipped_at) == (None, None)
    assert (found.project, found.schedule, found.decided_at) == (3, one.schedule, NINE + late)


@pytest.mark.parametrize(
    ("late", "planned"), [(600.0, NINE + 600.0), (1_199.0, NINE + 600.0), (1_800.0, NINE + 1_800.0)]
)
def test_of_several_times_the_latest_is_built_and_replaces_the_others(
    late: float, planned: float
) -> None:
    found = firing(due(), NINE + late)
    assert (found.planned, found.next_at) == (planned, planned + 600.0)
    assert found.skipped_at == NINE
    minute = int(planned - NINE) // 60
    assert found.skipped == f"the build of 2024-10-04T09:{minute:02}:00+00:00 replaces them"


def test_a_time_is_built_up_to_an_hour_late() -> None:
    daily = due("0 9 * * *")
    found = firing(daily, NINE + LATE_SECONDS - 0.5)
    assert (found.planned, found.next_at) == (NINE, NINE + DAY)
    late = firing(daily, NINE + LATE_SECONDS)
    assert (late.planned, late.next_at, late.skipped_at) == (None, NINE + DAY, NINE)
    assert late.skipped == "no node ran schedules until 2024-10-04T10:00:00+00:00"


def test_a_late_schedule_is_built_for_its_latest_time_within_the_hour() -> None:
    """However many times it has missed."""
    now = NINE + 1_000 * DAY
    found = firing(due("0 9 * * *"), now + 60.0)
    assert (found.planned, found.skipped_at) == (now, NINE)
    assert found.next_at == now + DAY
    found = firing(due("0 9 * * *"), now + LATE_SECONDS)
    assert found.planned is None


def test_times_are_those_of_the_schedules_zone() -> None:
    found = firing(due("0 11 * * *", zone="Europe/Berlin"), NINE + LATE_SECONDS)
    assert found.skipped == "no node ran schedules until 2024-10-04T12:00:00+02:00"
    assert found.next_at == NINE + DAY


def test_a_schedule_without_a_known_time_zone_is_looked_at_again_in_an_hour() -> None:
    found = firing(due(zone="Moon/Sea"), NINE + 5.0)
    assert (found.planned, found.skipped_at) == (None, NINE)
    assert found.next_at == NINE + 5.0 + LOOK_AGAIN_SECONDS
    assert found.skipped is not None and "Moon/Sea" in found.skipped
    kept = after_clock_change(due(zone="Moon/Sea"), NINE + 5.0)
    assert (kept.next_at, kept.planned, kept.skipped) == (NINE, None, None)


def test_times_are_skipped_with_a_reason() -> None:
    one = due()
    found = skip_due_times(one, NINE + 5.0, NINE + 9.0, "because")
    assert (found.project, found.schedule, found.due) == (3, one.schedule, NINE)
    assert (found.next_at, found.decided_at) == (NINE + 9.0, NINE + 5.0)
    assert (found.skipped_at, found.skipped, found.planned) == (NINE, "because", None)


def test_after_a_clock_change_the_next_time_is_computed_from_now() -> None:
    found = after_clock_change(due(at=NINE + 5 * DAY), NINE)
    assert (found.next_at, found.due) == (NINE + 600.0, NINE + 5 * DAY)
    assert (found.planned, found.skipped, found.decided_at) == (None, None, NINE)
