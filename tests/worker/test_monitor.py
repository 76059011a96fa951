"""bubblewrap's outermost process as a supervisor sees it: what it says, and how it is held."""

import contextlib
import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator

import pytest

from boxsched.worker.supervisor.isolation import STATUS_BYTES, Monitor
from tests.worker.test_descriptors import opened


@pytest.fixture
def monitor() -> Iterator[Monitor]:
    """It leaves no descriptor open."""
    before = opened()
    made = Monitor()
    yield made
    with contextlib.suppress(OSError):
        made.close_status()
    made.close()
    made.close()
    assert opened() == before


@pytest.fixture
def processes() -> Iterator[list[int]]:
    """The outermost process, and the first one inside."""
    both = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
    yield [one.pid for one in both]
    for one in both:
        one.send_signal(signal.SIGCONT)
        one.kill()
        one.wait()


def say(monitor: Monitor, *said: object) -> None:
    os.write(monitor.status, b"".join(json.dumps(one).encode() + b"\n" for one in said))


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_it_is_held_until_the_others_have_ended(monitor: Monitor, processes: list[int]) -> None:
    outer, inner = processes
    monitor.pid = outer
    say(monitor, {"child-pid": inner}, {"other": 1})
    assert monitor.hold()
    os.waitpid(outer, os.WUNTRACED)
    assert state(outer) == "T"
    assert not monitor.hold(), "it is held already"
    assert not select.select([monitor.inner], [], [], 0)[0]
    os.kill(inner, signal.SIGKILL)
    assert select.select([monitor.inner], [], [], 20)[0] == [monitor.inner]
    monitor.let_go()
    os.waitpid(outer, os.WCONTINUED)
    assert monitor.inner == -1 and state(outer) != "T"


@pytest.mark.parametrize(
    "said", [[], [{"other": 1}], [{"child-pid": "7"}], [{"child-pid": None}], [7], ["child-pid"]]
)
def test_a_job_that_has_not_begun_is_not_held(
    monitor: Monitor, processes: list[int], said: list[object]
) -> None:
    monitor.pid = processes[0]
    say(monitor, *said)
    assert not monitor.hold()
    assert monitor.inner == -1 and state(processes[0]) != "T"


def test_a_job_that_has_ended_is_not_held(monitor: Monitor, processes: list[int]) -> None:
    with subprocess.Popen(["true"]) as ended:
        pass
    monitor.pid = processes[0]
    say(monitor, {"child-pid": ended.pid})
    assert not monitor.hold()
    assert monitor.inner == -1 and state(processes[0]) != "T"


def test_a_program_that_ended_has_an_exit_code(monitor: Monitor) -> None:
    assert monitor.has_failed()
    say(monitor, {"child-pid": 7})
    assert monitor.has_failed()
    os.write(monitor.status, b'no json\n{"exit-')
    assert monitor.has_failed()
    os.write(monitor.status, b'code": 0}\n')
    assert not monitor.has_failed()
    monitor.close_status()
    assert not monitor.has_failed(), "also at the end of the pipe"


def test_only_so_much_is_read(monitor: Monitor) -> None:
    os.write(monitor.status, b" " * (STATUS_BYTES - 1) + b"\n")
    say(monitor, {"exit-code": 0})
    assert monitor.has_failed()
