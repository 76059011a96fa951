"""Packs: what is packed comes out again, and nothing else can be made of a hostile one (S19)."""

import io
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from boxsched.worker.agent.collecting import TooManyFiles, collect, open_found
from boxsched.worker.supervisor import packs, safe_files
from boxsched.worker.supervisor.packs import MAGIC, BadPack, InTheWay, Unpacked, unpack


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "workspace").mkdir()
    descriptor = safe_files.open_folder(str(tmp_path / "workspace"))
    yield descriptor
    os.close(descriptor)


def packed(*members: bytes, end: bytes | None = None) -> io.BytesIO:
    return io.BytesIO(MAGIC + b"".join(members) + (packs.end(len(members)) if end is None else end))


def file(path: str, data: bytes = b"x", mode: int = 0o644) -> bytes:
    return packs.member(path, mode, len(data), 10**18) + data


def put(workspace: int, *members: bytes, replace: bool = True) -> Unpacked:
    return unpack(packed(*members), workspace, replace=replace)


def test_files_come_out_with_their_mode_and_time(workspace: int, tmp_path: Path) -> None:
    done = put(workspace, file("a/b/c", b"data", 0o755), packs.link("a/link", "b/c"))
    its = (tmp_path / "workspace/a/b/c").stat()
    assert (tmp_path / "workspace/a/link").read_bytes() == b"data"
    assert (stat.S_IMODE(its.st_mode), its.st_mtime_ns) == (0o755, 10**18)
    assert done == Unpacked(2, 4)


HOSTILE = {
    "parent": file("../outside"),
    "parent inside": file("a/../../outside"),
    "absolute": file("/outside"),
    "nothing": file(""),
    "empty part": file("a//b"),
    "point": file("./a"),
    "NUL": file("a\0b"),
    "newline": file("a\nb"),
    "surrogate": file("a\udc80"),
    "long": file("a" * 256),
    "deep": file("/".join("a" * 65)),
    "link out": packs.link("a", "../outside"),
    "absolute link": packs.link("a", "/etc/passwd"),
    "link out, hidden": packs.link("a/b", "c/../../../outside"),
    "empty link": packs.link("a", ""),
    "setuid": file("a", mode=0o4755),
    "device": json.dumps(["b", "a", 8, 0]).encode() + b"\n",
    "hard link": json.dumps(["h", "a", "/etc/passwd"]).encode() + b"\n",
    "negative size": packs.member("a", 0o644, -1, 0),
    "enormous size": packs.member("a", 0o644, 1 << 70, 0),
    "text as size": json.dumps(["f", "a", 420, "1", 0]).encode() + b"\nx",
    "no JSON": b"{\n",
    "nested": b"[" * 9_000 + b"\n",
    "long line": b'["l", "' + b"a" * packs.MAX_LINE_BYTES + b'"]\n',
    "cut": packs.member("a", 0o644, 5, 0) + b"x",
}


@pytest.mark.parametrize("member", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("replace", [True, False])
def test_a_hostile_member_is_refused(
    workspace: int, tmp_path: Path, member: bytes, replace: bool
) -> None:
    (tmp_path / "outside").write_text("untouched")
    with pytest.raises(BadPack):
        put(workspace, member, replace=replace)
    assert (tmp_path / "outside").read_text() == "untouched"
    assert {entry.name for entry in tmp_path.iterdir()} == {"workspace", "outside"}


@pytest.mark.parametrize("data", [b"", b"x", MAGIC, MAGIC[:-1], packed(file("a")).read() + b"more"])
def test_what_is_no_whole_pack_is_refused(workspace: int, data: bytes) -> None:
    with pytest.raises(BadPack):
        unpack(io.BytesIO(data), workspace, replace=True)


def test_a_wrong_count_is_refused(workspace: int) -> None:
    with pytest.raises(BadPack):
        unpack(packed(file("a"), end=packs.end(2)), workspace, replace=True)


def test_a_pack_of_too_many_files_is_refused(
    workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packs, "MAX_MEMBERS", 2)
    with pytest.raises(BadPack, match="more than 2 files"):
        put(workspace, file("a"), file("b"), file("c"))


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_unpacked(data: bytes) -> None:
    descriptor = os.open("/", os.O_RDONLY)  # nothing may be written: no valid member fits so few
    try:
        with pytest.raises(BadPack):
            unpack(io.BytesIO(MAGIC + b'["f", "../' + data), descriptor, replace=True)
    finally:
        os.close(descriptor)


class TestInAWorkspaceWithLinks:
    """A repository can have a link where a pack has a folder or a file."""

    @pytest.fixture(autouse=True)
    def links(self, workspace: int, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (tmp_path / "outside/victim").write_text("untouched")
        (tmp_path / "workspace/folder").symlink_to(tmp_path / "outside")
        (tmp_path / "workspace/file").symlink_to(tmp_path / "outside/victim")

    def test_no_link_is_followed_to_a_folder(self, workspace: int, tmp_path: Path) -> None:
        with pytest.raises(InTheWay, match="folder/victim"):
            put(workspace, file("folder/victim"))
        done = put(workspace, file("folder/new"), file("other"), replace=False)
        assert (done.files, done.in_the_way) == (1, 1)
        assert [one.name for one in (tmp_path / "outside").iterdir()] == ["victim"]
        assert (tmp_path / "outside/victim").read_text() == "untouched"

    def test_a_link_is_replaced_by_the_file(self, workspace: int, tmp_path: Path) -> None:
        put(workspace, file("file"))
        assert not (tmp_path / "workspace/file").is_symlink()
        assert (tmp_path / "outside/victim").read_text() == "untouched"

    def test_or_left_where_the_pack_gives_way(self, workspace: int, tmp_path: Path) -> None:
        assert put(workspace, file("file"), replace=False).in_the_way == 1
        assert (tmp_path / "workspace/file").is_symlink()
        assert (tmp_path / "outside/victim").read_text() == "untouched"

    def test_a_link_of_the_pack_itself_is_not_followed(
        self, workspace: int, tmp_path: Path
    ) -> None:
        (tmp_path / "workspace/real").mkdir()
        with pytest.raises(InTheWay):
            put(workspace, packs.link("made", "real"), file("made/x"))
        assert not list((tmp_path / "workspace/real").iterdir())


def test_a_stop_ends_the_work(workspace: int) -> None:
    answers = iter([True, False])
    done = unpack(
        packed(file("a"), file("b")), workspace, replace=True, go_on=lambda: next(answers)
    )
    assert (done.files, done.complete) == (1, False)


# --- Collecting -------------------------------------------------------------------------------


def paths(workspace: int, *patterns: str, at_most: int = 100, links: bool = False) -> list[str]:
    found = collect(workspace, patterns, at_most, links=links)
    return [one.path for one in found.files]


@pytest.fixture
def tree(workspace: int, tmp_path: Path) -> Path:
    root = tmp_path / "workspace"
    for path in ("dist/a.txt", "dist/sub/b.txt", "src/c.txt", ".git/config", ".gitignore", "d"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    return root


def test_patterns_are_globs_and_a_folder_means_all_in_it(workspace: int, tree: Path) -> None:
    assert paths(workspace, "dist") == ["dist/a.txt", "dist/sub/b.txt"]
    assert paths(workspace, "dist/", "./d") == ["d", "dist/a.txt", "dist/sub/b.txt"]
    assert paths(workspace, "*.txt") == ["dist/a.txt", "dist/sub/b.txt", "src/c.txt"]
    assert paths(workspace, "dist/?.txt") == ["dist/a.txt"]
    assert paths(workspace, "DIST") == []
    assert ".git/config" not in paths(workspace, "*")
    assert paths(workspace, ".git/*") == [".git/config"]


def test_only_regular_files_of_the_workspace_are_found(
    workspace: int, tree: Path, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    (tree / "dist/link").symlink_to(tmp_path / "secret")
    (tree / "dist/up").symlink_to("..")
    os.mkfifo(tree / "dist/pipe")
    (tree / "linked").symlink_to(tmp_path)
    (tree / "dist/bad\nname").write_text("x")
    (tree / os.fsdecode(b"dist/\xff")).write_text("x")
    found = collect(workspace, ["dist", "linked"], 100)
    assert [one.path for one in found.files] == ["dist/a.txt", "dist/sub/b.txt"]
    assert len(found.left_out) == 6
    assert all(one.isprintable() for one in found.left_out)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_hard_link_to_another_users_file_is_left_out(
    workspace: int, tree: Path, tmp_path: Path
) -> None:
    os.chown(tree, 65534, 65534)
    (tmp_path / "secret").write_text("of root")
    os.link(tmp_path / "secret", tree / "dist/secret")
    os.chown(tree / "d", 65534, 65534)
    os.link(tree / "d", tree / "dist/own")
    found = collect(workspace, ["dist/secret", "dist/own"], 100)
    assert [one.path for one in found.files] == ["dist/own"]
    assert found.left_out == ["'dist/secret' (a hard link to a file of another user)"]


def test_more_files_than_allowed_are_an_error(workspace: int, tree: Path) -> None:
    assert len(paths(workspace, "*.txt", at_most=3)) == 3
    with pytest.raises(TooManyFiles, match="more than 2 files"):
        paths(workspace, "*.txt", at_most=2)


def test_a_very_deep_folder_is_left_out(workspace: int, tree: Path) -> None:
    deep = tree.joinpath(*["x"] * 70)
    deep.mkdir(parents=True)
    (deep / "file").write_text("x")
    found = collect(workspace, ["x"], 100)
    assert not found.files and len(found.left_out) == 1


def test_a_folder_that_became_a_link_is_not_followed(
    workspace: int, tree: Path, tmp_path: Path
) -> None:
    """Between the look and the reading."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/a.txt").write_text("secret")
    assert "dist/a.txt" in paths(workspace, "dist")
    (tree / "dist").rename(tree / "moved")
    (tree / "dist").symlink_to(tmp_path / "outside")
    with pytest.raises(safe_files.Damaged):
        open_found(workspace, "dist/a.txt")
