"""What isolation passes to bubblewrap, as values: no process is started."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from boxsched.worker.agent.bubblewrap import _last_line
from boxsched.worker.agent.images import Images, NoImage, image_folders, in_image
from boxsched.worker.agent.workspaces import counted, note, shown_size
from boxsched.worker.supervisor import folder as files
from boxsched.worker.supervisor import isolation
from boxsched.worker.supervisor.isolation import Isolation, options
from tests.worker.harness import at

WALLS = Isolation(
    ["/bin/bwrap", "--unshare-pid", "--die-with-parent", "--new-session", "--ro-bind", "/usr"],
    ["--tmpfs", "/tmp/late"],
)


def given(*arguments: Any, **named: Any) -> list[str]:
    """The options that bubblewrap would read."""
    file = options(WALLS, "/data/w1/box", 7, "secrets", *arguments, **named)
    try:
        return os.fdopen(os.dup(file), "rb").read().decode(errors="surrogateescape").split("\0")
    finally:
        os.close(file)


@pytest.fixture
def same_descriptors() -> Iterator[None]:
    before = os.listdir("/proc/self/fd")
    yield
    assert os.listdir("/proc/self/fd") == before, "no descriptor is left open"


@pytest.mark.usefixtures("same_descriptors")
def test_an_environment_reaches_the_program_unchanged() -> None:
    words = given({"A": "x y\n=\udcff", "B": ""})
    assert words[0] == "--unshare-pid", "without the program's own name"
    first = words.index("--setenv")
    assert words[first : first + 6] == ["--setenv", "A", "x y\n=\udcff", "--setenv", "B", ""]
    assert words[first - 2 : first] == ["--unsetenv", isolation.MARK]
    assert words.index("/tmp/late") < words.index("--remount-ro"), "what is late precedes that"
    assert words[-3:] == ["--json-status-fd", "7", ""]


@pytest.mark.usefixtures("same_descriptors")
@pytest.mark.parametrize(
    "environment", [{"A": "x\0y"}, {"A\0": "x"}, {"": "x"}, {"A=B": "x"}, {"A": "\ud800"}]
)
def test_an_environment_that_no_program_can_have_is_refused(environment: dict[str, str]) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EINVAL)) as refused:
        given(environment)
    assert refused.value.errno == errno.EINVAL


@pytest.mark.usefixtures("same_descriptors")
def test_options_that_cannot_be_written_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(isolation.safe_files, "write_all", full)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        given({})


def test_in_an_image_a_job_is_as_isolated_as_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / "images" / "tiny"
    (root / "bin").mkdir(parents=True)
    (root / "bin" / "sh").touch()
    images = Images("builder-1", image_folders([tmp_path / "images"]))
    inside = in_image(f"dir:{root}", images, WALLS)
    alike = WALLS.arguments[:4]
    assert inside.arguments[: len(alike)] == alike
    assert inside.arguments[len(alike) :] == [
        "--ro-bind", f"{root}/bin", "/bin", "--proc", "/proc", "--dev", "/dev", "--dir", "/run",
    ]  # fmt: skip
    assert (inside.late, inside.image) == ([], str(root))


def test_an_image_shows_its_own_system_but_not_what_each_box_has(tmp_path: Path) -> None:
    root = tmp_path / "tiny"
    for name in ("bin", "etc", "proc", "dev", "sys", "tmp", "run", "box", "lost+found"):
        (root / name).mkdir(parents=True)
    (root / "bin" / "sh").touch()
    (root / "lib").symlink_to("usr/lib")
    images = Images("builder-1", image_folders([tmp_path]))

    def system(walls: Isolation) -> list[str]:
        words = in_image(f"dir:{root}", images, walls).arguments
        return words[4 : words.index("--proc")]

    shown = ["--ro-bind", f"{root}/bin", "/bin", "--ro-bind", f"{root}/etc", "/etc"]
    assert system(WALLS) == [*shown, "--symlink", "usr/lib", "/lib"]
    (root / "etc" / "resolv.conf").touch()
    named = ["--ro-bind-try", os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf"]
    assert system(WALLS) == [*shown, "--symlink", "usr/lib", "/lib", *named]
    (root / "etc" / "resolv.conf").unlink()
    (root / "etc" / "resolv.conf").symlink_to("/etc/hostname")
    assert "--ro-bind-try" not in system(WALLS), "the image says where it is"
    place = f"{isolation.STAGE}/{isolation.IMAGE}"
    inside = system(WALLS._replace(uid=1_000))
    assert inside[:3] == ["--ro-bind", f"{place}/bin", "/bin"], "another user may not enter"


@pytest.mark.parametrize(
    ("image", "hidden", "said"),
    [
        ("tiny", (), None),
        ("tiny", ("tiny/data",), "{}/tiny contains files of builder-1"),
        ("tiny", ("tin",), None),
        ("", ("tiny",), "{}/ contains files of builder-1"),
        ("tiny/bin", ("tiny",), "{}/tiny/bin contains files of builder-1"),
        ("none", (), "builder-1 has no image {}/none"),
        ("tiny/bin/sh", (), "builder-1 has no image {}/tiny/bin/sh"),
        ("empty", (), "the image {}/empty has no /bin/sh"),
        ("../other", (), "{}/../other is not in a folder of images of builder-1: start it with "
         "--image-dir"),
        ("out", (), "{}/out is not in a folder of images of builder-1: start it with --image-dir"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused_with_the_reason(
    tmp_path: Path, image: str, hidden: tuple[str, ...], said: str | None
) -> None:
    folder = tmp_path / "images"
    for name in (folder / "tiny" / "bin", folder / "empty", tmp_path / "other" / "bin"):
        name.mkdir(parents=True)
    (folder / "tiny" / "bin" / "sh").touch()
    (folder / "out").symlink_to(tmp_path / "other")
    images = Images("builder-1", image_folders([folder]))
    walls = WALLS._replace(hidden=[f"{folder}/{name}" for name in hidden])
    if said is None:
        assert in_image(f"dir:{folder}/{image}", images, walls).image == f"{folder}/{image}"
        return
    with pytest.raises(NoImage) as refused:
        in_image(f"dir:{folder}/{image}", images, walls)
    assert str(refused.value) == said.format(folder)


def test_an_image_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sh").touch()
    images = Images("builder-1", image_folders([tmp_path]))

    def denied(path: str) -> list[str]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "listdir", denied)
    with pytest.raises(NoImage) as refused:
        in_image(f"dir:{tmp_path}", images, WALLS)
    assert str(refused.value) == f"the image {tmp_path} cannot be read: Permission denied"


def test_images_are_below_folders_that_exist(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "all").symlink_to("/")
    assert image_folders([tmp_path / "link"]) == (str(tmp_path),)
    for wrong in (Path("tests"), tmp_path / "file", tmp_path / "none", Path("/"), tmp_path / "all"):
        with pytest.raises(ValueError, match="must be the absolute path of a folder, and not /"):
            image_folders([tmp_path, wrong])


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (b"", "it says nothing"),
        (b"\n \n", "it says nothing"),
        (b"bwrap: first\nbwrap: last\n\n", "bwrap: last"),
        (b"a\x1b[31m\xff", "a?[31m\N{REPLACEMENT CHARACTER}"),
        (b"x" * 300, "x" * 200),
    ],
)
def test_of_what_bubblewrap_says_the_last_line_is_shown(said: bytes, line: str) -> None:
    assert _last_line(said) == line


@pytest.mark.parametrize(
    ("log", "newline"),
    [(b"", b""), (b"\n", b""), (b"text\n", b""), (b"text", b"\n"), (b"\nx", b"\n")],
)
def test_a_note_is_a_line_of_its_own_in_the_log(tmp_path: Path, log: bytes, newline: bytes) -> None:
    (tmp_path / files.LOG).write_bytes(log)
    attempt = cast(Any, SimpleNamespace(folder=SimpleNamespace(at=at(tmp_path))))
    note(attempt, "kept\t2 files")
    assert (tmp_path / files.LOG).read_bytes() == log + newline + b"[boxsched: kept?2 files]\n"


def test_a_note_is_short_and_a_log_that_is_gone_gets_none(tmp_path: Path) -> None:
    attempt = cast(Any, SimpleNamespace(folder=SimpleNamespace(at=at(tmp_path))))
    note(attempt, "x")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / files.LOG).touch()
    note(attempt, "x" * 2_000)
    assert (tmp_path / files.LOG).stat().st_size == 1_002


def test_sizes_and_numbers_are_read_easily() -> None:
    assert [shown_size(size) for size in (0, (1 << 20) - 1, 1 << 20, 3 << 19)] == [
        "0 bytes", "1048575 bytes", "1.0 MiB", "1.5 MiB",
    ]  # fmt: skip
    assert [counted(number, "file") for number in (0, 1, 2)] == ["0 files", "1 file", "2 files"]
