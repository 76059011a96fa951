"""Containment of a job's processes by itself: cgroups as files, and real processes."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxsched.worker.agent import remains
from boxsched.worker.supervisor import containment

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process in its own session that runs this Python; return its first line."""
    started: list[subprocess.Popen[str]] = []

    def begin(code: str = "", *arguments: str, **options: object) -> subprocess.Popen[str]:
        text = f"import os, sys, time\n{code}\nprint(os.getpid(), flush=True)\ntime.sleep(600)"
        process = subprocess.Popen(  # type: ignore[call-overload]
            [sys.executable, "-c", text, *arguments],
            stdout=subprocess.PIPE, text=True, start_new_session=True, **options,
        )  # fmt: skip
        started.append(process)
        return process

    yield begin
    for process in started:
        for pid in [*containment.descendants(process.pid), process.pid]:
            containment.send([pid], signal.SIGKILL)
        process.communicate(timeout=30)


def said(process: subprocess.Popen[str], lines: int = 1) -> list[int]:
    assert process.stdout is not None
    return [int(process.stdout.readline()) for _ in range(lines)]


# --- cgroups, as files in an ordinary folder -------------------------------------------------


def test_an_existing_cgroup_is_emptied_first(tmp_path: Path) -> None:
    new, old = tmp_path / "new", tmp_path / "old"
    assert containment.make_cgroup(str(new))
    assert new.is_dir()
    old.mkdir()
    (old / "cgroup.kill").touch()
    assert containment.make_cgroup(str(old))
    assert (old / "cgroup.kill").read_text() == "1"
    assert not containment.make_cgroup(str(tmp_path / "nowhere" / "new"))


def test_a_cgroup_is_in_use_while_it_is_populated(tmp_path: Path) -> None:
    assert not containment.in_use(str(tmp_path / "nowhere"))
    for text, in_use in (
        ("populated 1\nfrozen 0\n", True),
        ("frozen 0\npopulated 1\n", True),
        ("populated 0\nfrozen 0\n", False),
        ("", False),
    ):
        (tmp_path / "cgroup.events").write_text(text)
        assert containment.in_use(str(tmp_path)) is in_use


def test_a_cgroup_is_removed_with_its_processes_unless_some_remain(tmp_path: Path) -> None:
    group = tmp_path / "group"
    (group / "a" / "b").mkdir(parents=True)
    (group / "c").mkdir()
    containment.remove_cgroup(str(group))
    assert not group.exists()
    (group / "a").mkdir(parents=True)
    (group / "c").mkdir()
    (group / "a" / "process").touch()
    containment.remove_cgroup(str(group))
    assert sorted(path.name for path in group.rglob("*")) == ["a", "process"]
    containment.remove_cgroup(str(tmp_path / "nowhere"))
    containment.kill_cgroup(str(tmp_path / "nowhere"))


# --- Processes ------------------------------------------------------------------------------


def test_descendants_are_found_at_any_depth_and_unknown_ones_are_told_apart(
    start: Start,
) -> None:
    fork = "print(os.getpid(), flush=True)\nif os.fork(): time.sleep(600)\n"
    process = start(fork + fork)
    top, middle, bottom = said(process, 3)
    assert top == process.pid
    assert containment.descendants(top) == [middle, bottom]
    assert containment.unknown_children(top, []) == [middle, bottom]
    assert containment.unknown_children(top, [middle]) == []
    assert containment.descendants(bottom) == []
    assert {middle, bottom} <= set(containment.descendants(os.getpid()))


def test_a_process_is_distinguished_from_a_later_one_by_its_start_time(start: Start) -> None:
    process = start()
    said(process)
    began = containment.start_time(process.pid)
    ours = containment.start_time(os.getpid())
    assert began is not None and ours is not None
    assert began >= ours > 0
    assert containment.start_time(process.pid) == began
    process.kill()
    process.communicate(timeout=30)
    assert containment.start_time(process.pid) is None
    containment.send([process.pid], signal.SIGTERM)  # no such process: no error


def test_a_stopped_process_is_frozen_until_it_continues(start: Start) -> None:
    process = start()
    said(process)
    assert not containment.is_frozen(process.pid)
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)
    assert containment.is_frozen(process.pid)
    containment.send([process.pid], signal.SIGCONT)
    os.waitpid(process.pid, os.WCONTINUED)
    assert not containment.is_frozen(process.pid)
    process.kill()
    process.communicate(timeout=30)
    assert not containment.is_frozen(process.pid)


def test_supervisors_are_recognized_by_their_name_and_their_folder(
    start: Start, tmp_path: Path
) -> None:
    named = f"open('/proc/self/comm', 'w').write({containment.title('w1-1-1')!r})"
    folder = str(tmp_path)
    supervisor, other, elsewhere = start(named, folder), start("", folder), start(named, "/")
    for process in (supervisor, other, elsewhere):
        said(process)
    assert containment.supervisors("w1-1-1", folder) == [supervisor.pid]
    assert containment.supervisors("w1-1-2", folder) == []
    assert containment.supervisors("w1-1-1", folder[:-1]) == []
    supervisor.kill()
    os.waitid(os.P_PID, supervisor.pid, os.WEXITED | os.WNOWAIT)
    assert containment.supervisors("w1-1-1", folder) == [], "it is dead, and not yet buried"


def test_the_name_of_a_supervisor_fits_into_the_kernels_limit() -> None:
    assert containment.title("w1-1-1") == "job w1-1-1"
    assert containment.title("w123456789-1-1") == "job w123456789-"


def test_remaining_processes_of_a_job_are_found_by_environment_or_folder(
    start: Start, tmp_path: Path
) -> None:
    ids, marks = {"JOB": "w1-1", "ATTEMPT": "1"}, {"MARK": "m", "OTHER": "o"}
    inside, beside = tmp_path / "box", tmp_path / "box-2"
    for folder in (inside / "deep", beside):
        folder.mkdir(parents=True)
    found = [
        start(env={**ids, "MARK": "m"}, cwd=tmp_path),
        start(env={**ids, "OTHER": "o"}, cwd=tmp_path),
        start(env=ids, cwd=inside),
        start(env=ids, cwd=inside / "deep"),
    ]
    others = [
        start(env=ids, cwd=tmp_path),
        start(env=ids, cwd=beside),
        start(env={**ids, "MARK": "x"}, cwd=tmp_path),
        start(env={"JOB": "w1-1", "MARK": "m"}, cwd=inside),
        start(env={**ids, "ATTEMPT": "11", "MARK": "m"}, cwd=inside),
    ]
    for process in found + others:
        said(process)
    carriers = containment.marked_processes(ids, marks, str(inside))
    assert sorted(carriers) == sorted(process.pid for process in found)


def test_a_process_that_is_gone_by_now_hides_no_other(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each list of processes is outdated when it is read: some have ended."""
    named = f"open('/proc/self/comm', 'w').write({containment.title('w1-1-1')!r})"
    ids = {"JOB": "w1-1"}
    process = start(named, str(tmp_path), env={**ids, "MARK": "m"})
    said(process)
    ended = start()
    said(ended)
    ended.kill()
    ended.communicate(timeout=30)
    pids = [str(ended.pid), str(process.pid)]
    for order in (pids, pids[::-1]):
        monkeypatch.setattr(containment, "_pids", lambda order=order: order)
        assert containment.marked_processes(ids, {"MARK": "m"}, "/nowhere") == [process.pid]
        assert containment.supervisors("w1-1-1", str(tmp_path)) == [process.pid]
        assert containment.descendants(os.getpid()) == [process.pid]
        assert containment.unknown_children(os.getpid(), []) == [process.pid]


def test_without_descriptors_nothing_is_known_about_any_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a living process would count as gone."""

    def refused(path: str, mode: str = "r") -> None:
        raise OSError(errno.EMFILE, "no", path)

    monkeypatch.setattr(containment, "open", refused, raising=False)
    for look in (
        lambda: containment.in_use("/c"),
        lambda: containment.start_time(os.getpid()),
        lambda: containment.is_frozen(os.getpid()),
        lambda: containment.descendants(os.getpid()),
        lambda: containment.unknown_children(os.getpid(), []),
        lambda: containment.supervisors("w1-1-1", "/"),
        lambda: containment.marked_processes({}, {}, "/"),
    ):
        with pytest.raises(OSError, match="no"):
            look()


@pytest.mark.parametrize(
    ("cgroup", "held", "done"),
    [
        (None, [], []),
        ("/c", [False], ["remove /c"]),
        ("/c", [True, True, False], ["kill /c", "kill /c", "remove /c"]),
    ],
)
def test_what_is_left_of_an_attempt_is_killed_until_its_cgroup_is_empty(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cgroup: str | None,
    held: list[bool],
    done: list[str],
) -> None:
    found: list[str] = []
    monkeypatch.setattr(containment, "in_use", lambda cgroup: held.pop(0))
    monkeypatch.setattr(containment, "kill_cgroup", lambda cgroup: found.append(f"kill {cgroup}"))
    monkeypatch.setattr(
        containment, "remove_cgroup", lambda cgroup: found.append(f"remove {cgroup}")
    )
    remains.end_processes(str(tmp_path / "w1-1-1"), None, cgroup)
    assert (found, held) == (done, [])
