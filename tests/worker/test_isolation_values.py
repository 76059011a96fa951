"""What isolation passes to bubblewrap, as values: no process is started."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from boxsched.worker.agent.bubblewrap import _last_line
from boxsched.worker.agent.images import Images, image_folders, in_image
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
