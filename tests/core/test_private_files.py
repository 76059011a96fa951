"""Files of mode 0600 that several processes may create at the same time."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from boxsched.folders import create_private


def test_only_its_user_can_read_it_and_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "data" / "key"
    create_private(path, "text\n")
    assert path.read_text() == "text\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == ["key"]


def test_the_first_of_several_writers_decides(tmp_path: Path) -> None:
    path = tmp_path / "key"

    def create(text: str) -> str:
        create_private(path, text)
        return path.read_text()

    with ThreadPoolExecutor(8) as pool:
        read = set(pool.map(create, [str(n) * 1000 for n in range(8)]))
    assert len(read) == 1
    create_private(path, "later")
    assert {path.read_text()} == read
    assert [each.name for each in tmp_path.iterdir()] == ["key"]
