"""Parts of a supervisor by themselves: its user, its steps that fail, and whom it signals."""

import errno
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from boxsched.worker.supervisor import containment, isolation, safe_files
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor.container import Container
from boxsched.worker.supervisor.folder import Step
from boxsched.worker.supervisor.isolation import STAGE, Isolation
from boxsched.worker.supervisor.limits import NO_LIMITS
from boxsched.worker.supervisor.masking import Masks
from boxsched.worker.supervisor.output import Output
from boxsched.worker.supervisor.supervision import Supervision
from tests.worker.harness import at

GIT = Step("git fetch", ["/usr/bin/git"], {}, False, False)


# --- The user of an isolated job --------------------------------------------------------------


class Kernel:
    """Records the calls by which a process changes its user; ``refuses`` the one of that name."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refuses: str = "") -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.refuses = refuses
        for name in ("setgroups", "setresgid", "setresuid"):
            monkeypatch.setattr(os, name, self._recorded(name))
        monkeypatch.setattr(isolation.ctypes, "get_errno", lambda: errno.EPERM)
        libc = SimpleNamespace(unshare=self._returned("unshare"), mount=self._returned("mount"))
        monkeypatch.setattr(isolation, "_libc", libc)

    def _recorded(self, name: str) -> Any:
        return lambda *arguments: self.calls.append((name, *arguments))

    def _returned(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            said = (name, *arguments)
            self.calls.append(said)
            return -1 if self.refuses in (name, str(arguments[1:2])) else 0

        return call


def test_a_supervisor_of_root_mounts_the_box_and_gives_up_its_rights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(monkeypatch)
    isolation.change_user(Isolation(["bwrap"], [], 5, 6), "/data/box")
    assert [call[0] for call in kernel.calls] == [
        "unshare", "mount", "mount", "setgroups", "setresgid", "setresuid",
    ]  # fmt: skip
    assert kernel.calls[0] == ("unshare", 0x20000), "a mount namespace of its own"
    assert kernel.calls[1][2] == b"/" and kernel.calls[1][4] == 0x44000, "nothing leaves it"
    assert kernel.calls[2][1:3] == (b"/data/box", STAGE.encode())
    assert kernel.calls[2][4] == 0x1000
    assert kernel.calls[3:] == [("setgroups", []), ("setresgid", 6, 6, 6), ("setresuid", 5, 5, 5)]


@pytest.mark.parametrize(
    ("refuses", "said"),
    [
        ("unshare", "unshare: Operation"),
        ("(b'/',)", "mount /: Operation"),
        (f"({STAGE.encode()!r},)", f"mount {STAGE}: Operation"),
    ],
)
def test_a_job_does_not_begin_with_roots_rights(
    monkeypatch: pytest.MonkeyPatch, refuses: str, said: str
) -> None:
    kernel = Kernel(monkeypatch, refuses)
    with pytest.raises(PermissionError, match=said):
        isolation.change_user(Isolation(["bwrap"], [], 5, 6), "/data/box")
    assert not [call for call in kernel.calls if call[0].startswith("set")], "nothing begins"


@pytest.mark.parametrize(("uid", "gid"), [(None, None), (5, None), (None, 6)])
def test_a_supervisor_that_is_not_root_keeps_its_user(
    monkeypatch: pytest.MonkeyPatch, uid: int | None, gid: int | None
) -> None:
    kernel = Kernel(monkeypatch)
    monkeypatch.setattr(os, "fchown", lambda *arguments: kernel.calls.append(arguments))
    walls = Isolation(["bwrap"], [], uid, gid)
    isolation.change_user(walls, "/data/box")
    walls.give(3)
    assert kernel.calls == []
    Isolation(["bwrap"], [], 0, 0).give(3)
    assert kernel.calls == [(3, 0, 0)]


# --- A step of git that failed ------------------------------------------------------------------


@pytest.fixture
def output(tmp_path: Path) -> Iterator[Output]:
    safe_files.write_file(at(tmp_path), files.LOG, b"")
    made = Output(at(tmp_path), 1 << 20, Masks([]))
    made.keep_tail(4_096)
    yield made
    for descriptor in (made.pipe, made.job_end, made._file):
        os.close(descriptor)


class Idle(Supervision):
    """A supervision that has run nothing, without descriptors and signals. What is not set is
    None: it is not there."""

    def __init__(self, **values: Any) -> None:
        vars(self).update(values)

    def __getattr__(self, name: str) -> None:
        return None


def supervision(**values: Any) -> Any:
    started = {
        "began": 0.0, "killed": False, "limits": NO_LIMITS,
        "record": SimpleNamespace(timeout_seconds=60.0),
        "deadline": SimpleNamespace(lost_after=None),
    }  # fmt: skip
    return Idle(**started | values)


@pytest.mark.parametrize(
    ("said", "step", "status", "reason", "not_begun"),
    [
        (b"fatal: write error: No space left on device\n", GIT, 128, files.DISK_FULL, True),
        (b"fatal: Out of memory, malloc failed\n", GIT, 128, "out of memory", True),
        (b"", GIT, -9, "git fetch was killed, perhaps because memory ran out", True),
        (b"fatal: no such ref\n", GIT, 128, "git fetch failed with exit status 128", False),
        (b"", GIT, -15, "git fetch failed with signal SIGTERM", False),
        (b"fatal: no\n", GIT._replace(refusal="there is no main"), 1, "there is no main", False),
    ],
)
def test_the_last_output_of_git_decides_who_is_to_blame(
    output: Output, said: bytes, step: Step, status: int, reason: str, not_begun: bool
) -> None:
    """It may still be in the pipe when git has ended."""
    os.write(output.job_end, said)
    machine = SimpleNamespace(disk_was_full=True, memory_was_low=True)
    ended = supervision(output=output, machine=machine)._git_failed(step, status)
    assert (ended.result, ended.reason, ended.not_begun) == ("failed", reason, not_begun)


@pytest.mark.parametrize(
    ("goes", "status", "cause", "said", "removed"),
    [
        (True, 0, None, b"", True),
        (True, 137, None, b"well\n", True),
        (False, 0, None, b"", False),
        (True, 125, None, b"", False),
        (True, -9, None, b"", False),
        (True, None, None, b"", False),
        (True, 0, "stopped", b"", False),
        (True, 0, None, b'time="x" level=error msg="Removing container x: busy"\n', False),
    ],
)
def test_a_container_is_removed_by_another_podman_unless_its_own_has_ended_as_usual(
    output: Output, goes: bool, status: int | None, cause: str | None, said: bytes, removed: bool
) -> None:
    os.write(output.job_end, said or b"-")
    container = Container(["podman"], {}, [], "w1", "image:1", goes=goes)
    found = supervision(output=output, status=status, cause=cause)._is_removed(container)
    assert found is removed


@pytest.mark.parametrize(
    ("number", "walls", "reason", "not_begun"),
    [
        (errno.E2BIG, None, "cannot start the script: Argument list too long", False),
        (errno.ENAMETOOLONG, None, "cannot start the script: File name too long", False),
        (errno.ENOSPC, None, files.DISK_FULL, True),
        (errno.ENOMEM, None, "cannot start the script: Cannot allocate memory", True),
        (errno.ENOENT, None, "cannot start the script: No such file or directory", True),
        (errno.ENOENT, Isolation(["/no/bwrap"], []), "bwrap is not installed", True),
    ],
)
def test_a_program_that_cannot_be_started_is_the_workers_fault_unless_it_can_start_nowhere(
    number: int, walls: Isolation | None, reason: str, not_begun: bool
) -> None:
    step = Step("the script", ["/bin/sh"], {}, False, True)
    error = OSError(number, os.strerror(number))
    ended = supervision(walls=walls)._not_started(step, error)
    assert (ended.result, ended.reason, ended.not_begun) == ("failed", reason, not_begun)
    if walls is None:
        step = step._replace(argv=["/nowhere/sh"])
        ended = supervision()._not_started(step, error)
        assert (ended.reason == "sh is not installed") is not_begun


# --- Signals --------------------------------------------------------------------------------


def test_a_held_monitor_is_killed_but_not_asked_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """bubblewrap's outermost process holds the others together while they have their grace."""
    sent: list[tuple[list[int], int]] = []
    monkeypatch.setattr(containment, "descendants", lambda root: [7, 8, 9])
    monkeypatch.setattr(containment, "send", lambda pids, number: sent.append((pids, number)))
    held = supervision(monitor=SimpleNamespace(pid=7, inner=3))
    free = supervision(monitor=SimpleNamespace(pid=7, inner=-1))
    for one in (held, free, supervision()):
        one._signal(signal.SIGTERM)
        one._kill()
        assert one.killed
    everyone = [7, 8, 9]
    assert sent == [
        ([8, 9], signal.SIGTERM), (everyone, signal.SIGKILL),
        (everyone, signal.SIGTERM), (everyone, signal.SIGKILL),
        (everyone, signal.SIGTERM), (everyone, signal.SIGKILL),
    ]  # fmt: skip


def test_what_is_left_after_a_full_table_of_descriptors_is_killed_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(root: int) -> list[int]:
        raise OSError(errno.EMFILE, "no")

    killed: list[str] = []
    monkeypatch.setattr(containment, "descendants", full)
    monkeypatch.setattr(containment, "kill_cgroup", killed.append)
    supervision(cgroup="/c")._kill()
    assert killed == ["/c"]
