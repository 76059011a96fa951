"""Times of cron expressions, especially when clocks change for summer time."""

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from boxsched.cron import explanation, local_time, times_after
from boxsched.errors import Invalid


def local(cron: str, zone: str, start: str, count: int) -> list[str]:
    """Return the instants after a local time, as day and time with the offset."""
    after = datetime.fromisoformat(start).replace(tzinfo=ZoneInfo(zone)).timestamp()
    return [local_time(at, zone)[8:] for at in islice(times_after(cron, zone, after), count)]


@pytest.mark.parametrize(
    ("cron", "zone", "start", "expected"),
    [
        # Spring: 02:00 becomes 03:00. Skipped times run once, at the first moment after the gap.
        ("30 2 * * *", "Europe/Berlin", "2027-03-27T12:00",
         ["28T03:00:00+02:00", "29T02:30:00+02:00"]),
        ("0,30 2 * * *", "Europe/Berlin", "2027-03-28T00:00",
         ["28T03:00:00+02:00", "29T02:00:00+02:00"]),
        ("30 2 * * *", "Europe/Berlin", "2027-03-28T03:00", ["29T02:30:00+02:00"]),
        ("30 1-3 * * *", "Europe/Berlin", "2027-03-28T00:00",
         ["28T01:30:00+01:00", "28T03:00:00+02:00", "28T03:30:00+02:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2027-03-28T01:00",
         ["28T01:30:00+01:00", "28T03:00:00+02:00"]),
        ("30 2 * * *", "America/New_York", "2027-03-14T00:00",
         ["14T03:00:00-04:00", "15T02:30:00-04:00"]),
        # Autumn: 02:00 to 03:00 happens twice. A fixed time of day runs the first time.
        ("30 2 * * *", "Europe/Berlin", "2027-10-31T00:00",
         ["31T02:30:00+02:00", "01T02:30:00+01:00"]),
        ("*/30 * * * *", "Europe/Berlin", "2027-10-31T02:00",
         ["31T02:30:00+02:00", "31T02:00:00+01:00", "31T02:30:00+01:00", "31T03:00:00+01:00"]),
        ("0 * * * *", "Europe/Berlin", "2027-10-31T01:30",
         ["31T02:00:00+02:00", "31T02:00:00+01:00"]),
        ("30 1 * * *", "America/New_York", "2027-11-07T00:00",
         ["07T01:30:00-04:00", "08T01:30:00-05:00"]),
        # Half an hour only.
        ("15 2 * * *", "Australia/Lord_Howe", "2027-10-03T00:00",
         ["03T02:30:00+11:00", "04T02:15:00+11:00"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2027-04-04T00:00",
         ["04T01:45:00+11:00", "05T01:45:00+10:30"]),
        ("0 * * * *", "Australia/Lord_Howe", "2027-10-03T00:30",
         ["03T01:00:00+10:30", "03T03:00:00+11:00"]),
        # The whole 30th of December was skipped.
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T11:00",
         ["29T12:00:00-10:00", "31T00:00:00+14:00", "31T12:00:00+14:00"]),
    ],
)  # fmt: skip
def test_times_are_right_when_clocks_change(
    cron: str, zone: str, start: str, expected: list[str]
) -> None:
    assert local(cron, zone, start, len(expected)) == expected


def test_a_schedule_that_begins_in_the_repeated_hour_runs_once() -> None:
    """02:10 exists twice; after the second one the first 02:30 has passed."""
    second = datetime(2027, 10, 31, 1, 10, tzinfo=UTC).timestamp()
    assert local_time(second, "Europe/Berlin") == "2027-10-31T02:10:00+01:00"
    at = next(times_after("30 2 * * *", "Europe/Berlin", second))
    assert local_time(at, "Europe/Berlin") == "2027-11-01T02:30:00+01:00"


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/Havana", ""]
)
@pytest.mark.parametrize(
    "cron", ["30 2 * * *", "0 0 * * *", "*/20 * * * *", "15 * * * *", "0 */2 * * 0", "5 1-3 * * *"]
)
def test_each_time_follows_from_the_one_before(cron: str, zone: str) -> None:
    """Over a year: the starting point does not matter, so a takeover changes nothing."""
    start = datetime(2027, 3, 1, tzinfo=UTC).timestamp()
    limit = start + 270 * 86_400
    one_by_one, at = [], start
    for _ in range(300):
        at = next(times_after(cron, zone, at))
        one_by_one.append(at)
    assert one_by_one == list(islice(times_after(cron, zone, start), 300))
    assert one_by_one == sorted(set(one_by_one))
    for at in islice(times_after(cron, zone, limit - 60 * 86_400), 60):
        assert next(times_after(cron, zone, at - 30)) == at


@pytest.mark.parametrize(
    ("name", "same"), [("@daily", "0 0 * * *"), ("@hourly", "0 * * * *"), ("@weekly", "0 0 * * 0")]
)
def test_names_such_as_daily_are_expressions(name: str, same: str) -> None:
    assert list(islice(times_after(name, "", 0.0), 5)) == list(
        islice(times_after(same, "", 0.0), 5)
    )
    assert explanation(name) == explanation(same)


def test_a_schedule_for_leap_years_is_accepted() -> None:
    at = next(times_after("0 0 29 2 *", "", datetime(2097, 1, 1, tzinfo=UTC).timestamp()))
    assert local_time(at, "") == "2104-02-29T00:00:00+00:00"


@pytest.mark.parametrize(
    ("cron", "zone", "field"), [("@daily", "Mars/Phobos", "time_zone"), ("61 * * * *", "", "cron")]
)
def test_an_unknown_time_zone_is_reported(cron: str, zone: str, field: str) -> None:
    with pytest.raises(Invalid) as caught:
        next(times_after(cron, zone, 0.0))
    assert caught.value.field == field
