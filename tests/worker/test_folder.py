"""Records, notes, locks and removal, without any process."""

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from boxsched.worker.agent import remains
from boxsched.worker.agent.notes import note
from boxsched.worker.agent.site import open_folder
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import job_secrets, safe_files
from boxsched.worker.supervisor.folder import Ended, Record, Step
from boxsched.worker.supervisor.safe_files import Damaged
from tests.worker.harness import at

RECORD = Record(
    "c", 1025, 1, 7, "boot", 60.0, 1 << 20, None, {"A": "ü\n"}, [Step("x", ["/b"], {}, False, True)]
)


def test_a_record_is_read_back_unchanged(tmp_path: Path) -> None:
    files.write_record(at(tmp_path), RECORD)
    assert files.read_record(at(tmp_path)) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == [files.RECORD]


@pytest.mark.parametrize(
    ("base", "level", "said"),
    [
        (
            "/sys/fs/cgroup/ours",
            "INFO",
            "jobs run as this user, each in a cgroup below /sys/fs/cgr",
        ),
        (None, "WARNING", "jobs run as this user and without a cgroup, because it can write to no"),
    ],
)
def test_an_agent_logs_how_its_jobs_are_kept_apart_from_each_other(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    base: str | None,
    level: str,
    said: str,
) -> None:
    caplog.set_level("INFO")
    monkeypatch.setattr("boxsched.worker.agent.site.containment.cgroup_base", lambda: base)
    opened = open_folder(tmp_path / "agent", cluster="c", log_limit=1, stop_grace=1.0)
    opened.close()
    record = caplog.records[0]
    assert (record.levelname, record.getMessage()[: len(said)]) == (level, said)
    assert (tmp_path / "agent").stat().st_mode & 0o777 == 0o700


def test_every_shortened_record_is_damaged(tmp_path: Path) -> None:
    files.write_record(at(tmp_path), RECORD)
    path = tmp_path / files.RECORD
    whole = path.read_bytes()
    for size in range(len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(Damaged):
            files.read_record(at(tmp_path))


def test_a_note_appears_complete_and_in_its_reserved_file(tmp_path: Path) -> None:
    ended = Ended("failed", None, 9, True, "time limit of 1 s", 1.5, 2.5)
    files.reserve(at(tmp_path), "place")
    inode = (tmp_path / "place").stat().st_ino
    assert note(at(tmp_path), files.RESULT, Ended) is None
    files.put(at(tmp_path), "place", files.RESULT, ended, durable=True)
    assert note(at(tmp_path), files.RESULT, Ended) == ended
    assert (tmp_path / files.RESULT).stat().st_ino == inode


@pytest.mark.parametrize("text", [b"", b"{}", b'["ran",null]', b'["won",0,null,false,null,1,2]'])
def test_a_note_of_another_program_is_damaged(tmp_path: Path, text: bytes) -> None:
    (tmp_path / files.RESULT).write_bytes(text)
    with pytest.raises(Damaged):
        note(at(tmp_path), files.RESULT, Ended)


def test_a_tree_is_removed_at_any_depth_and_if_read_only(tmp_path: Path) -> None:
    top, kept = tmp_path / "top", tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    top.mkdir()
    here = os.open(top, os.O_RDONLY)
    for _ in range(400):  # deeper than any path may be long
        os.mkdir("some-folder", dir_fd=here)
        inner = os.open("some-folder", os.O_RDONLY, dir_fd=here)
        os.symlink(kept, "link", dir_fd=here)
        os.chmod(f"/proc/self/fd/{here}", 0o500)
        os.close(here)
        here = inner
    os.close(here)
    safe_files.remove_tree(at(tmp_path), top.name)
    assert list(tmp_path.iterdir()) == [kept]
    assert list(kept.iterdir()) == [kept / "file"]


def test_removing_nothing_is_fine(tmp_path: Path) -> None:
    assert safe_files.remove_tree(at(tmp_path), "nothing") == []


@pytest.mark.parametrize("most", range(1, 16))
def test_removing_a_tree_stops_before_it_takes_long(tmp_path: Path, most: int) -> None:
    for folder in ("top/a/b", "top/c/a", "top/c/d"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "file").touch()
        (tmp_path / folder / "other").touch()
    entries = sum(len(folders) + len(names) for _, folders, names in os.walk(tmp_path / "top"))
    left = safe_files.remove_tree(at(tmp_path), "top", most)
    assert (left == []) == (most >= entries)
    for tree in left:
        safe_files.remove_tree(at(tmp_path), tree)
    assert list(tmp_path.iterdir()) == []


def test_ringing_without_an_agent_is_fine(tmp_path: Path) -> None:
    files.ring(at(tmp_path))
    os.mkfifo(tmp_path / files.BELL)
    files.ring(at(tmp_path))


def test_a_bell_that_is_a_file_or_a_link_is_not_rung(tmp_path: Path) -> None:
    """That would write a byte into the file that the link names."""
    (tmp_path / "database").write_bytes(b"SQLite")
    (tmp_path / files.BELL).symlink_to(tmp_path / "database")
    files.ring(at(tmp_path))
    assert (tmp_path / "database").read_bytes() == b"SQLite"
    (tmp_path / files.BELL).unlink()
    (tmp_path / files.BELL).write_bytes(b"")
    files.ring(at(tmp_path))
    assert (tmp_path / files.BELL).read_bytes() == b""


def test_a_file_that_cannot_be_removed_for_a_moment_is_not_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ending process writes once more into a folder that is being removed."""
    (tmp_path / "trash/job").mkdir(parents=True)
    remove = safe_files.remove_tree
    tried: list[str] = []

    def interrupted(shelf: int, name: str) -> None:
        tried.append(name)
        if len(tried) == 1:
            raise OSError(39, "Directory not empty", name)
        remove(shelf, name)

    monkeypatch.setattr(remains.safe_files, "remove_tree", interrupted)
    monkeypatch.setattr(remains, "_EMPTY_PAUSE_SECONDS", 0)
    assert remains.empty(at(tmp_path), "trash") == []
    assert list((tmp_path / "trash").iterdir()) == []


def test_files_that_can_never_be_removed_are_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trash/job").mkdir(parents=True)

    tried: list[str] = []

    def refused(shelf: int, name: str) -> None:
        tried.append(name)
        raise OSError(1, "Operation not permitted", name)

    pauses: list[float] = []
    monkeypatch.setattr(remains.safe_files, "remove_tree", refused)
    monkeypatch.setattr(remains, "time", SimpleNamespace(sleep=pauses.append))
    failures = remains.empty(at(tmp_path), "trash")
    assert [error.strerror for error in failures] == ["Operation not permitted"]
    assert (tried, sum(pauses)) == (["job"] * 3, 1.0), "it is tried for about a second"


def test_a_shelf_that_became_a_link_is_not_followed(tmp_path: Path) -> None:
    """Neither when it is emptied nor when something is put there."""
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (tmp_path / "trash").symlink_to("precious")
    assert len(remains.empty(at(tmp_path), "trash")) == 1
    (tmp_path / "w1-1-1").mkdir()
    remains.set_aside(at(tmp_path), "w1-1-1", "trash")
    assert (tmp_path / "trash/w1-1-1").is_dir() and not (tmp_path / "trash").is_symlink()
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["file"]


def test_a_link_to_a_tree_is_removed_and_the_tree_stays(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/file").touch()
    (tmp_path / "box").symlink_to("precious")
    safe_files.remove_tree(at(tmp_path), "box")
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]
    assert (tmp_path / "precious/file").exists()


def test_a_new_file_replaces_a_link_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("kept")
    (tmp_path / f"{files.RECORD}.new").symlink_to("precious")
    files.write_record(at(tmp_path), RECORD)
    assert (tmp_path / "precious").read_text() == "kept"
    assert files.read_record(at(tmp_path)) == RECORD


def test_the_shelves_leave_no_descriptor_open(tmp_path: Path) -> None:
    harness = at(tmp_path)
    before = sorted(os.listdir("/proc/self/fd"))
    for name in ("w1-1-1", "w1-2-1", "w1-3-1"):
        (tmp_path / name).mkdir()
        remains.set_aside(harness, name, "quarantine")
    remains.keep_newest(harness, "quarantine", "trash", kept=1)
    assert remains.empty(harness, "trash") == []
    assert len(list((tmp_path / "quarantine").iterdir())) == 1
    assert sorted(os.listdir("/proc/self/fd")) == before
    os.close(harness)


@pytest.mark.parametrize("there", ["nothing", "a folder", "a file", "a link"])
def test_files_of_secrets_replace_what_is_in_their_place(tmp_path: Path, there: str) -> None:
    """A repository may have something of that name: it is neither read nor written through."""
    elsewhere, place = tmp_path / "elsewhere", tmp_path / "box" / job_secrets.FILES_FOLDER
    elsewhere.mkdir()
    place.parent.mkdir()
    if there == "a folder":
        place.mkdir()
        (place / "KEY").symlink_to(elsewhere / "KEY")
    elif there == "a file":
        place.write_text("x")
    elif there == "a link":
        place.symlink_to(elsewhere)
    secrets = job_secrets.NO_SECRETS._replace(files={"KEY": "hunter2"})
    variables = job_secrets.write_files(at(place.parent), "/box", secrets)
    assert variables == {"KEY": f"/box/{job_secrets.FILES_FOLDER}/KEY"}
    assert (place / "KEY").read_text() == "hunter2"
    assert place.stat().st_mode & 0o777 == 0o700
    assert not list(elsewhere.iterdir())
