"""One turn of a supervisor's wait, by a held clock: what wakes it, and what it does then."""

import os
import signal
from typing import Any

import pytest

from boxsched.worker.supervisor import containment, supervision
from boxsched.worker.supervisor.limits import NO_LIMITS
from boxsched.worker.supervisor.supervision import KILL_AGAIN_SECONDS, STOP_LOOK_SECONDS
from boxsched.worker.supervisor.verdict import DISK_FULL, LOST, OVER_DISK, STOPPED, TIMED_OUT
from tests.worker.test_supervision import supervision as made

INF = float("inf")
PIPE, ALARM, INNER, MEASURED = 3, 4, 5, 6


class Turns:
    """A supervision whose clock, descriptors and signals belong to the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
        self.now = 100.0
        self.ready: list[int] = []
        self.waited: list[float] = []
        self.done: list[Any] = []
        self.disk_full = False
        self.lease_over = False
        self.grace: float | None = None
        self.passes = 0.0  # seconds that the wait takes
        monkeypatch.setattr(supervision, "_clock", lambda: self.now)
        monkeypatch.setattr(supervision.verdict, "grace", lambda at: self.grace)
        monkeypatch.setattr(supervision.verdict, "why_stopped", lambda at: "stopped by Ada")
        monkeypatch.setattr(containment, "descendants", lambda root: [7])
        monkeypatch.setattr(containment, "send", self.send)
        monkeypatch.setattr(supervision.os, "read", lambda *arguments: b"x")
        monkeypatch.setattr(supervision.os, "waitpid", self.waitpid)
        self.ended: list[tuple[int, int]] = []
        self.children = True
        started = {
            "output": self, "alarm": ALARM, "poll": self, "at": 0, "child": 7, "status": None,
            "childless": False, "machine": self, "end_by": 160.0, "kill_by": INF, "look_by": 101.0,
        }  # fmt: skip
        self.one = made(**started | values)
        self.one.deadline = self
        self.one.record.stop_grace = 10.0

    # what the supervision sees
    pipe = PIPE
    next_at = INF  # of the watch of the machine

    def look(self, now: float) -> None:
        self.done.append(f"look at {now:g}")
        self.next_at = now + 1.0

    lost_after = 90.0

    def poll(self, milliseconds: float) -> list[tuple[int, int]]:
        self.waited.append(milliseconds / 1_000)
        self.now += self.passes
        return [(descriptor, 1) for descriptor in self.ready]

    def unregister(self, descriptor: int) -> None:
        self.done.append(f"unregister {descriptor}")

    def register(self, descriptor: int, events: int) -> None:
        self.done.append(f"register {descriptor}")

    def read(self) -> int:
        self.done.append("read")
        return 0

    def note(self, text: str) -> None:
        self.done.append(text)

    def passed(self, now: float) -> bool:
        return self.lease_over

    def send(self, pids: list[int], number: signal.Signals) -> None:
        if pids:
            self.done.append(number.name)

    def waitpid(self, pid: int, options: int) -> tuple[int, int]:
        assert (pid, options) == (-1, os.WNOHANG)
        if self.ended:
            return self.ended.pop()
        if not self.children:
            raise ChildProcessError
        return 0, 0

    def turn(self, *ready: int, at: float | None = None) -> list[Any]:
        self.now = self.now if at is None else at
        self.ready, self.done = [*ready], []
        self.one._turn()
        return self.done


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Turns:
    return Turns(monkeypatch)


def test_it_waits_for_the_next_deadline(turns: Turns) -> None:
    for by, wait in (
        ({"look_by": 101.0}, 1.0),
        ({"end_by": 100.5}, 0.5),
        ({"kill_by": 100.2}, 0.2),
        ({"kill_by": 90.0, "end_by": 170.0}, 0.0),
    ):
        vars(turns.one).update({"look_by": 101.0, "end_by": 160.0, "kill_by": INF} | by)
        turns.turn(at=100.0)
        assert turns.waited[-1] == pytest.approx(wait + 0.001), "and a bit, to be past it"


def test_output_is_read_only_when_there_is_some(turns: Turns) -> None:
    assert turns.turn() == []
    assert turns.turn(PIPE) == ["read"]


def test_a_stop_is_looked_for_at_its_time_and_when_a_signal_comes(turns: Turns) -> None:
    turns.grace = 5.0
    assert turns.turn(at=100.9) == []
    assert turns.turn(at=101.0) == ["stopped by Ada", "SIGTERM"]
    assert (turns.one.cause, turns.one.kill_by) == (STOPPED, 106.0)
    assert turns.one.look_by == 101.0 + STOP_LOOK_SECONDS
    assert turns.turn(at=102.0) == [], "once"


def test_a_signal_is_looked_at_at_once(turns: Turns) -> None:
    turns.grace = 0.0
    assert turns.turn(ALARM) == ["stopped by Ada", "SIGKILL"], "without a grace"
    assert turns.one.killed and turns.one.kill_by == 100.0 + KILL_AGAIN_SECONDS


def test_a_job_that_goes_on_is_killed_again(turns: Turns) -> None:
    vars(turns.one).update(cause=STOPPED, kill_by=105.0)
    assert turns.turn(at=104.9) == []
    assert turns.turn(at=105.0) == ["SIGKILL"]
    again = 105.0 + KILL_AGAIN_SECONDS
    assert turns.turn(at=again - 0.01) == []
    assert turns.turn(at=again) == ["SIGKILL"]


def test_the_time_limit_ends_a_job_with_its_grace(turns: Turns) -> None:
    said, number = turns.turn(at=160.0)
    assert (number, turns.one.cause, turns.one.kill_by) == ("SIGTERM", TIMED_OUT, 170.0)
    assert said == "time limit of 60 s reached, so the job is ended"
    assert turns.turn(at=169.9) == []
    assert turns.turn(at=170.0) == ["SIGKILL"]


def test_the_time_limit_shortens_the_grace_of_a_stop(turns: Turns) -> None:
    """A job can write a stop with a long grace itself."""
    vars(turns.one).update(cause=STOPPED, kill_by=9_999.0)
    assert turns.turn(at=160.0) == []
    assert (turns.one.cause, turns.one.kill_by) == (STOPPED, 170.0)
    assert turns.turn(at=170.0) == ["SIGKILL"]


@pytest.mark.parametrize("kill_by", [165.0, 170.0])
def test_the_time_limit_does_not_lengthen_a_grace(turns: Turns, kill_by: float) -> None:
    vars(turns.one).update(cause=STOPPED, kill_by=kill_by)
    turns.turn(at=160.0)
    assert turns.one.kill_by == kill_by


def test_a_step_that_ended_at_its_time_limit_keeps_its_result(turns: Turns) -> None:
    turns.one.status = 0
    assert turns.turn(at=160.0) == []
    assert (turns.one.cause, turns.one.kill_by) == (None, INF)


def test_a_full_disk_ends_a_job_at_once_unless_something_else_has(turns: Turns) -> None:
    turns.disk_full = True
    assert turns.turn(PIPE) == ["read", "SIGKILL"]
    assert turns.one.cause == DISK_FULL
    vars(turns.one).update(cause=STOPPED, kill_by=105.0)
    assert turns.turn(PIPE) == ["read"]
    assert turns.one.cause == STOPPED


def test_a_job_whose_lease_is_over_is_killed_at_once(turns: Turns) -> None:
    turns.lease_over = True
    said, number = turns.turn(at=101.0)
    assert (turns.one.cause, number) == (LOST, "SIGKILL")
    assert said.startswith("no node answered for 90 s")
    assert turns.turn(at=101.1) == []


def test_a_lease_that_ends_during_a_grace_ends_the_grace(turns: Turns) -> None:
    turns.lease_over = True
    vars(turns.one).update(cause=STOPPED, kill_by=105.0)
    assert turns.turn(at=101.0) == ["SIGKILL"]
    assert turns.one.cause == STOPPED
    assert turns.turn(at=101.1) == []


@pytest.mark.parametrize(
    ("values", "cause"), [({"killed": True}, None), ({"cause": DISK_FULL}, DISK_FULL)]
)
def test_a_job_that_is_being_killed_is_not_lost(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, Any], cause: str | None
) -> None:
    turns = Turns(monkeypatch, **values)
    turns.lease_over = True
    assert turns.turn(at=101.0) == []
    assert turns.one.cause == cause


def test_ended_children_are_collected_and_the_steps_own_has_its_status(turns: Turns) -> None:
    turns.ended = [(7, 3 << 8), (9, 0)]  # an adopted orphan first
    turns.turn(ALARM)
    assert (turns.one.status, turns.one.childless, turns.ended) == (3, False, [])
    turns.children = False
    turns.turn(ALARM)
    assert (turns.one.status, turns.one.childless) == (3, True)


def test_a_step_that_ended_is_not_stopped_any_more(turns: Turns) -> None:
    turns.grace, turns.ended = 5.0, [(7, 0)]
    assert turns.turn(ALARM) == []
    assert (turns.one.status, turns.one.cause) == (0, None)


@pytest.mark.parametrize(
    ("cause", "values", "in_grace"),
    [
        (STOPPED, {}, True),
        (TIMED_OUT, {}, True),
        (None, {}, False),
        (LOST, {}, False),
        (DISK_FULL, {}, False),
        (STOPPED, {"childless": True}, False),
        (STOPPED, {"killed": True}, False),
    ],
)
def test_processes_that_are_left_have_the_grace_of_a_stop(
    turns: Turns, cause: str | None, values: dict[str, Any], in_grace: bool
) -> None:
    vars(turns.one).update({"cause": cause, "status": 0} | values)
    assert turns.one._in_grace() is in_grace
    turns.lease_over = True
    killed = turns.turn(at=101.0)
    assert (killed == ["SIGKILL"]) is in_grace, "the lease still counts in the grace"


class Disk:
    """A measurement of the Box that is due at ``next_at``."""

    def __init__(self, turns: Turns, next_at: float, *, exceeded: bool = False) -> None:
        self.turns, self.next_at, self.exceeded, self.pipe = turns, next_at, exceeded, -1
        self.error: OSError | None = None

    def begin(self, now: float) -> None:
        if self.error is not None:
            raise self.error
        self.turns.done.append(f"measure at {now:g}")
        self.next_at, self.pipe = INF, MEASURED

    def is_exceeded(self, now: float) -> bool:
        self.pipe = -1
        return self.exceeded


def test_a_box_is_measured_when_it_is_time(turns: Turns) -> None:
    turns.one.disk = disk = Disk(turns, 100.5)
    assert turns.turn(at=100.4) == []
    assert turns.waited[-1] == pytest.approx(0.101), "until then"
    disk.error = OSError(24, "no descriptor")
    assert turns.turn(at=100.5) == []
    disk.error = None
    assert turns.turn(at=100.5) == ["measure at 100.5", f"register {MEASURED}"]
    assert turns.turn(at=100.6) == []
    assert turns.turn(MEASURED) == [f"unregister {MEASURED}"]
    assert turns.one.cause is None


@pytest.mark.parametrize("cause", [None, STOPPED])
def test_a_box_that_takes_too_much_disk_ends_its_job_at_once(
    turns: Turns, cause: str | None
) -> None:
    """But a job that is being ended is not measured."""
    turns.one.disk = disk = Disk(turns, INF, exceeded=True)
    turns.one.limits = NO_LIMITS._replace(disk=1 << 30)
    disk.pipe = MEASURED
    turns.one.cause = cause
    done = turns.turn(MEASURED)
    if cause is None:
        unregistered, said, number = done
        assert unregistered == f"unregister {MEASURED}"
        assert said.endswith("exceeded, so the job is ended")
        assert (number, turns.one.cause) == ("SIGKILL", OVER_DISK)
    else:
        assert (done, turns.one.cause) == ([], cause)


class Monitor:
    """bubblewrap's outermost process. ``begun``: it runs the job, so it can be held."""

    def __init__(self, turns: Turns, inner: int = -1, *, begun: bool = True) -> None:
        self.turns, self.inner, self.begun, self.pid = turns, inner, begun, 7

    def hold(self) -> bool:
        self.turns.done.append("hold")
        self.inner = INNER if self.begun else -1
        return self.begun

    def let_go(self) -> None:
        self.turns.done.append("let go")
        self.inner = -1


def test_a_held_monitor_is_let_go_when_no_other_process_is_left(turns: Turns) -> None:
    turns.one.monitor = Monitor(turns, INNER)
    assert turns.turn() == []
    assert turns.turn(INNER) == [f"unregister {INNER}", "let go"]
    turns.one.monitor = Monitor(turns, INNER)
    turns.one.status = 0
    assert turns.turn(INNER) == [], "it has ended itself"


def test_a_monitor_is_held_for_the_grace(turns: Turns) -> None:
    turns.one.monitor, turns.grace = Monitor(turns), 5.0
    assert turns.turn(at=101.0) == ["stopped by Ada", "hold", f"register {INNER}"], (
        "the monitor alone is not asked to end"
    )


@pytest.mark.parametrize("begun", [True, False])
def test_a_monitor_is_not_held_without_a_grace_or_without_a_job(turns: Turns, begun: bool) -> None:
    turns.one.monitor = Monitor(turns, begun=begun)
    turns.grace = 0.0 if begun else 5.0
    expected = ["SIGKILL"] if begun else ["hold", "SIGTERM"]
    assert turns.turn(at=101.0) == ["stopped by Ada", *expected]


def test_the_machine_is_looked_at_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = Turns(monkeypatch)
    turns.next_at = 100.5
    turns.one._turn()
    assert (turns.waited, turns.done) == ([pytest.approx(0.501)], [])
    turns.now = 100.5
    turns.one._turn()
    assert turns.done == ["look at 100.5"]
