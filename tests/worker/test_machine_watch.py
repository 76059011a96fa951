"""Whether disk and memory were short while git ran."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from boxsched.worker.supervisor import machine_watch
from boxsched.worker.supervisor.machine_watch import LOOK_SECONDS, MachineWatch

MIB = 1 << 20


class Machine:
    """A disk of 10 GiB and as much memory, with what is free of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.disk = self.memory = 5_000 * MIB
        self.flag = 0
        fake = SimpleNamespace(statvfs=self._statvfs, fstatvfs=self._statvfs, ST_RDONLY=1)
        monkeypatch.setattr(machine_watch, "os", fake)
        monkeypatch.setattr(machine_watch, "_memory", lambda: (self.memory, 10_000 * MIB))
        self.watch = MachineWatch(3)

    def _statvfs(self, at: int) -> SimpleNamespace:
        assert at == 3
        blocks = {"f_bavail": self.disk // 4096, "f_blocks": 10_000 * MIB // 4096}
        return SimpleNamespace(**blocks, f_frsize=4096, f_flag=self.flag)

    @property
    def seen(self) -> tuple[bool, bool, bool]:
        watch = self.watch
        return watch.disk_was_full, watch.memory_was_low, watch.disk_is_read_only


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


def test_what_is_not_short_confirms_nothing(machine: Machine) -> None:
    assert machine.seen == (False, False, False)
    machine.watch.begin(0.0)
    for _ in range(9):
        machine.disk -= 100 * MIB
        machine.watch.look(0.0)
    assert machine.seen == (False, False, False)


@pytest.mark.parametrize(("what", "seen"), [("disk", (True, False)), ("memory", (False, True))])
def test_what_git_has_filled_and_freed_counts(
    machine: Machine, what: str, seen: tuple[bool, bool]
) -> None:
    machine.watch.begin(0.0)
    setattr(machine, what, 63 * MIB)
    machine.watch.look(1.0)
    setattr(machine, what, 5_000 * MIB)
    machine.watch.end()
    assert machine.seen == (*seen, False)
    machine.watch.begin(2.0)
    assert machine.seen == (False, False, False), "the next step is another one"


def test_what_may_have_been_filled_between_two_looks_counts(machine: Machine) -> None:
    machine.watch.begin(0.0)
    machine.disk = 600 * MIB
    machine.watch.look(1.0)  # 4,400 MiB since the first look
    machine.disk = 5_000 * MIB
    machine.watch.end()
    assert machine.seen == (True, False, False)


def test_a_read_only_disk_is_one_at_the_end(machine: Machine) -> None:
    machine.watch.begin(0.0)
    machine.flag = 1
    assert machine.seen == (False, False, True)


def test_the_next_look_is_due_only_while_git_runs(tmp_path: Path) -> None:
    at = os.open(tmp_path, os.O_RDONLY)
    watch = MachineWatch(at)
    assert watch.next_at == float("inf")
    watch.begin(10.0)
    assert watch.next_at == 10.0 + LOOK_SECONDS
    watch.end()
    assert watch.next_at == float("inf")
    assert watch._memory._seen, "the machine's own figures can be read"
    os.close(at)
    watch.look(0.0)
    assert not watch.disk_is_read_only
