"""The node's clock while its machine sleeps, and when its wall clock is set."""

import time

import pytest

from boxsched import clock
from boxsched.clock import Clock


class Machine:
    """Its clocks: ``boottime`` runs while it sleeps, ``monotonic`` does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.boottime, self.monotonic = 1_000_000.0, 50.0, 40.0
        clocks = {
            time.CLOCK_MONOTONIC: lambda: self.monotonic,
            getattr(time, "CLOCK_BOOTTIME", None): lambda: self.boottime,
        }
        monkeypatch.setattr(clock.time, "time", lambda: self.wall)
        monkeypatch.setattr(clock.time, "monotonic", lambda: self.monotonic)
        monkeypatch.setattr(clock.time, "clock_gettime", lambda which: clocks[which]())

    def run(self, seconds: float) -> None:
        self.monotonic += seconds
        self.sleep(seconds)

    def sleep(self, seconds: float) -> None:
        self.wall += seconds
        self.boottime += seconds


@pytest.mark.skipif(not hasattr(time, "CLOCK_BOOTTIME"), reason="no clock runs during sleep")
def test_the_time_while_the_machine_slept_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    node = Clock()
    node.set_to(2_000_000.0)
    machine.run(5.0)
    machine.sleep(3_600.0)
    machine.run(1.0)
    assert node.now() == 2_003_606.0
    assert node.monotonic() == 46.0


def test_a_wall_clock_that_is_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    node = Clock()
    assert node.now() == 1_000_000.0
    machine.wall += 86_400.0
    machine.run(2.0)
    assert node.now() == 1_000_002.0
    node.not_before(1_000_010.0)
    node.not_before(1_000_005.0)
    assert node.now() == 1_000_010.0
