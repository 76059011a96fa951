"""Whether a slow database is alive, and how long a transaction may wait, by a held clock."""

import contextlib

import pytest

from boxsched.store.postgres import pulse as module
from boxsched.store.postgres.pulse import (
    COMMIT_SECONDS,
    HEARD_SECONDS,
    LONGEST_SECONDS,
    PATIENCE,
    REMEMBERED_SECONDS,
    SLOW_SECONDS,
    ServerPulse,
)


class Held:
    now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Held:
    held = Held()
    monkeypatch.setattr(module, "time", held)
    return held


def took(pulse: ServerPulse, time: Held, seconds: float) -> None:
    """A commit that took so long; the server is alive at its end."""
    with pulse.committing():
        time.now += seconds
    pulse.beats()


def test_a_server_is_alive_for_a_while_after_each_answer(time: Held) -> None:
    pulse = ServerPulse()
    assert not pulse.is_well
    pulse.beats()
    time.now += HEARD_SECONDS - 0.01
    assert pulse.is_well
    time.now += 0.01
    assert not pulse.is_well


def test_a_commit_is_waited_for_while_the_server_answers_and_not_for_ever(time: Held) -> None:
    pulse = ServerPulse()
    pulse.beats()
    with pulse.committing() as goes_on:
        assert goes_on()
        time.now += HEARD_SECONDS
        assert not goes_on()
        pulse.beats()
        assert goes_on()
        time.now = 1_000.0 + COMMIT_SECONDS - 0.01
        pulse.beats()
        assert goes_on()
        time.now += 0.01
        pulse.beats()
        assert not goes_on()


def test_nothing_waits_for_fast_commits_or_for_a_server_that_is_silent(time: Held) -> None:
    pulse = ServerPulse()
    pulse.beats()
    assert pulse.patience == 0.0
    took(pulse, time, SLOW_SECONDS - 0.01)
    assert pulse.patience == 0.0
    took(pulse, time, SLOW_SECONDS + 0.25)
    assert pulse.patience == pytest.approx(PATIENCE * (SLOW_SECONDS + 0.25))
    time.now += HEARD_SECONDS
    assert pulse.patience == 0.0, "it does not answer"


def test_the_slowest_commit_counts_until_it_is_long_ago(time: Held) -> None:
    pulse = ServerPulse()
    took(pulse, time, 2.0)
    ended = time.now
    took(pulse, time, 1.0)
    assert pulse.patience == 2.0 * PATIENCE
    time.now = ended + REMEMBERED_SECONDS - 0.01
    pulse.beats()
    assert pulse.patience == 2.0 * PATIENCE
    time.now = ended + REMEMBERED_SECONDS
    pulse.beats()
    assert pulse.patience == 0.0
    took(pulse, time, 1.0)
    assert pulse.patience == 1.0 * PATIENCE, "a faster one counts when the slow one is forgotten"
    took(pulse, time, 3.0)
    assert pulse.patience == 3.0 * PATIENCE


def test_commits_that_still_run_count_with_their_time_so_far(time: Held) -> None:
    pulse = ServerPulse()
    with contextlib.suppress(RuntimeError), pulse.committing():
        time.now += 2.0
        pulse.beats()
        assert pulse.patience == 2.0 * PATIENCE
        raise RuntimeError
    time.now += REMEMBERED_SECONDS
    pulse.beats()
    assert pulse.patience == 0.0, "also one that failed has ended"


def test_patience_has_a_limit(time: Held) -> None:
    pulse = ServerPulse()
    took(pulse, time, 2 * LONGEST_SECONDS)
    assert pulse.patience == LONGEST_SECONDS == 20.0


def test_a_patient_transaction_waits_longer_for_locks_and_statements() -> None:
    assert ServerPulse.settings(0.0) == (
        "SET LOCAL lock_timeout = '1.000s'; SET LOCAL statement_timeout = '4.000s'"
    )
    assert ServerPulse.settings(2.5) == (
        "SET LOCAL lock_timeout = '3.500s'; SET LOCAL statement_timeout = '14.000s'"
    )
