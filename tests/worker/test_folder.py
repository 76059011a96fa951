"""Records, notes, locks and removal, without any process."""

import os
from pathlib import Path

import pytest

from boxsched.worker import folder as files
from boxsched.worker import remains
from boxsched.worker.folder import Damaged, Ended, Record, Step
from boxsched.worker.notes import note

RECORD = Record(
    "c", 1025, 1, 7, "boot", 60.0, 1 << 20, None, {"A": "ü\n"}, [Step("x", ["/b"], {}, False, True)]
)


def test_a_record_comes_back_as_it_was(tmp_path: Path) -> None:
    files.write_record(str(tmp_path), RECORD)
    assert files.read_record(str(tmp_path)) == RECORD
    assert [path.name for path in tmp_path.iterdir()] == [files.RECORD]


def test_every_shortened_record_is_damaged(tmp_path: Path) -> None:
    files.write_record(str(tmp_path), RECORD)
    path = tmp_path / files.RECORD
    whole = path.read_bytes()
    for size in range(len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(Damaged):
            files.read_record(str(tmp_path))


def test_a_note_appears_whole_and_in_the_reserved_place(tmp_path: Path) -> None:
    ended = Ended("failed", None, 9, True, "time limit of 1 s", 1.5, 2.5)
    files.reserve(str(tmp_path), "place")
    inode = (tmp_path / "place").stat().st_ino
    assert note(str(tmp_path), files.RESULT, Ended) is None
    files.put(str(tmp_path), "place", files.RESULT, ended, durable=True)
    assert note(str(tmp_path), files.RESULT, Ended) == ended
    assert (tmp_path / files.RESULT).stat().st_ino == inode


@pytest.mark.parametrize("text", [b"", b"{}", b'["ran",null]', b'["won",0,null,false,null,1,2]'])
def test_a_note_that_we_did_not_write_is_damaged(tmp_path: Path, text: bytes) -> None:
    (tmp_path / files.RESULT).write_bytes(text)
    with pytest.raises(Damaged):
        note(str(tmp_path), files.RESULT, Ended)


def test_a_tree_goes_however_deep_and_read_only(tmp_path: Path) -> None:
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
    files.remove_tree(str(top))
    assert list(tmp_path.iterdir()) == [kept]
    assert list(kept.iterdir()) == [kept / "file"]


def test_removing_nothing_is_well(tmp_path: Path) -> None:
    files.remove_tree(str(tmp_path / "nothing"))


def test_ringing_without_an_agent_is_well(tmp_path: Path) -> None:
    files.ring(str(tmp_path / "attempt"))
    os.mkfifo(tmp_path / files.BELL)
    files.ring(str(tmp_path / "attempt"))


def test_what_is_only_for_a_moment_not_to_be_removed_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is just ending writes once more into a folder that is being removed."""
    (tmp_path / "job").mkdir()
    remove = files.remove_tree
    tried: list[str] = []

    def interrupted(top: str) -> None:
        tried.append(top)
        if len(tried) == 1:
            raise OSError(39, "Directory not empty", top)
        remove(top)

    monkeypatch.setattr(remains.files, "remove_tree", interrupted)
    monkeypatch.setattr(remains, "_EMPTY_PAUSE_SECONDS", 0)
    assert remains.empty(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_what_can_never_be_removed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "job").mkdir()

    def refused(top: str) -> None:
        raise OSError(1, "Operation not permitted", top)

    monkeypatch.setattr(remains.files, "remove_tree", refused)
    monkeypatch.setattr(remains, "_EMPTY_PAUSE_SECONDS", 0)
    assert [error.strerror for error in remains.empty(str(tmp_path))] == ["Operation not permitted"]
