"""How isolation is set up: the user, what is hidden, and what to do if it does not work."""

import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from boxsched.worker.agent import bubblewrap
from boxsched.worker.agent.bubblewrap import (
    DEFAULT_USER,
    BadBoxOption,
    BoxOptions,
    _covers,
    _user,
    advice,
)
from tests.worker.conftest import needs_bubblewrap


@pytest.mark.parametrize(
    ("problem", "said"),
    [
        ("bubblewrap is not installed", "apt install bubblewrap"),
        ("cannot isolate jobs: No permissions to create a new namespace", "sysctl kernel."),
        ("cannot isolate jobs: setting up uid map: Invalid argument", "sysctl kernel."),
        ("cannot isolate jobs: Operation not permitted", "sysctl kernel."),
        ("cannot isolate jobs: something else", "see `bwrap --help`"),
    ],
)
def test_each_problem_comes_with_what_to_do(problem: str, said: str) -> None:
    assert said in advice(problem)


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Users by name; without one named ``gone``."""
    known = {DEFAULT_USER: (65_534, 65_533), "builder": (1_000, 1_001), "toor": (0, 0)}

    def by_name(name: str) -> SimpleNamespace:
        return SimpleNamespace(pw_uid=known[name][0], pw_gid=known[name][1])

    monkeypatch.setattr(bubblewrap.pwd, "getpwnam", by_name)
    monkeypatch.setattr(bubblewrap.pwd, "getpwuid", lambda uid: SimpleNamespace(pw_name="builder"))


@pytest.mark.usefixtures("users")
def test_a_worker_of_root_runs_its_jobs_as_an_ordinary_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert _user(None) == (65_534, 65_533)
    assert _user("builder") == (1_000, 1_001)
    with pytest.raises(BadBoxOption, match="there is no user gone"):
        _user("gone")
    with pytest.raises(BadBoxOption, match="cannot be isolated as root"):
        _user("toor")


@pytest.mark.usefixtures("users")
def test_an_ordinary_worker_can_use_no_other_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    assert _user(None) == _user("builder") == (None, None)
    with pytest.raises(BadBoxOption, match="only a worker that runs as root"):
        _user(DEFAULT_USER)


def test_what_jobs_would_see_is_covered(tmp_path: Path) -> None:
    seen, beside, file = tmp_path / "seen", tmp_path / "seen-not", tmp_path / "seen" / "file"
    for folder in (seen / "deep", beside):
        folder.mkdir(parents=True)
    file.touch()
    hidden = [str(path) for path in (seen / "deep", file, beside, seen / "nowhere")]
    for shown in (str(seen), f"{seen}/"):
        assert [*_covers(hidden, {shown: str(seen)})] == [
            "--tmpfs", str(seen / "deep"), "--remount-ro", str(seen / "deep"),
            "--ro-bind", "/dev/null", str(file),
        ]  # fmt: skip
    itself = str(seen)
    covers = [*_covers([itself], {itself: itself})]
    assert covers == ["--tmpfs", itself, "--remount-ro", itself]
    assert [*_covers(hidden, {"/usr": "/usr"})] == []


def test_what_jobs_would_see_through_a_link_is_covered_too(tmp_path: Path) -> None:
    deep, link = tmp_path / "real/deep", str(tmp_path / "link")
    deep.mkdir(parents=True)
    both = {link: str(tmp_path / "real"), str(tmp_path): str(tmp_path), f"{link}/deep": str(deep)}
    places = [word for word in _covers([str(deep)], both) if word.startswith("/")]
    assert places[::2] == [f"{link}/deep", str(deep)]


@needs_bubblewrap
def test_a_readable_link_shows_nothing_that_is_hidden(reachable_folder: Path) -> None:
    data = reachable_folder / "real/data"
    data.mkdir(parents=True)
    (data / "token").write_text("the token")
    (data.parent / "file").write_text("the file")
    link = reachable_folder / "link"
    link.symlink_to(data.parent)
    walls = bubblewrap.isolation(BoxOptions(readable=(link,), hidden=(data,)))
    for name, said in (("file", b"the file"), ("data/token", b"")):
        command = [*walls.arguments, *walls.late, "--", "cat", str(link / name)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        assert (done.stdout, done.returncode == 0) == (said, bool(said))
