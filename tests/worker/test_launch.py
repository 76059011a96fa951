"""A program of a job is started, or the caller gets its error."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from boxsched.worker.supervisor.launch import launch
from tests.faults.processes import children

Run = Callable[..., tuple[int, bytes, bool]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run a program to its end; return its exit status, its output, and whether it was
    contained."""
    workspace = os.open(tmp_path, os.O_RDONLY)

    def run(*argv: str, cgroup: str | None = None, **environment: str) -> tuple[int, bytes, bool]:
        out, into = os.pipe()
        try:
            child, contained = launch(
                list(argv), {"PATH": os.defpath, **environment},
                workspace=workspace, output=into, errors=into, cgroup=cgroup,
            )  # fmt: skip
        finally:
            os.close(into)
        with open(out, "rb") as said:
            text = said.read()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), text, contained

    yield run
    os.close(workspace)


def test_a_program_runs_in_its_workspace_with_only_its_environment(
    run: Run, tmp_path: Path
) -> None:
    script = "pwd; echo $WHAT; echo gone wrong >&2; env; exit 7"
    status, text, contained = run("/bin/sh", "-c", script, WHAT="it")
    lines = text.decode().splitlines()
    assert (status, contained) == (7, False)
    assert lines[:3] == [str(tmp_path), "it", "gone wrong"]
    names = {line.partition("=")[0] for line in lines[3:]}
    assert names <= {"PATH", "WHAT", "PWD", "OLDPWD", "SHLVL", "_"}


def test_a_program_inherits_nothing_of_its_supervisor(run: Run) -> None:
    """It has a session of its own, ignores no signal, and its files are readable as usual."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN), os.umask(0o077)
    try:
        script = "cat /proc/$$/stat; umask; grep SigIgn /proc/$$/status"
        status, text, _ = run("/bin/sh", "-c", script)
    finally:
        signal.signal(signal.SIGTERM, before[0])
        os.umask(before[1])
    stat, mask, ignored = text.decode().splitlines()
    pid, group, session = (int(stat.split()[n]) for n in (0, 4, 5))
    assert (status, group, session) == (0, pid, pid)
    assert (mask, ignored.split()[1].strip("0")) == ("0022", "")


def test_a_program_that_cannot_be_started_is_an_error_and_leaves_no_child(run: Run) -> None:
    before = children(os.getpid())
    for argv, error in (
        (("/nowhere/program",), FileNotFoundError),
        (("/etc",), PermissionError),
        (("/bin/echo", "a\0b"), OSError),
    ):
        with pytest.raises(error):
            run(*argv)
    assert not {*children(os.getpid())} - {*before}


def test_a_program_is_put_into_its_cgroup_or_runs_without_one(run: Run, tmp_path: Path) -> None:
    """In an ordinary folder; in a real cgroup the kernel would take the number that is written
    there."""
    group = tmp_path / "group"
    group.mkdir()
    (group / "cgroup.procs").touch()
    assert run("/bin/echo", "x", cgroup=str(group)) == (0, b"x\n", True)
    assert (group / "cgroup.procs").read_text() == "0"
    assert run("/bin/echo", "x", cgroup=str(tmp_path / "nowhere")) == (0, b"x\n", False)
