"""A full disk: a starting node waits for space, and a serving node is not ready."""

import asyncio
import errno
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from boxsched import service
from boxsched.listening import bound
from tests.service.test_start import options


def fill(file: Path) -> None:
    with file.open("wb", buffering=0) as ballast:
        while True:
            try:
                ballast.write(bytes(4096))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                return


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that is full until files are removed."""
    folder = tmp_path / "full"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mount = shutil.which("mount")
    if mount is None or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("cannot mount a small file system here")
    try:
        fill(folder / "ballast")
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


async def until(so: Callable[[], bool]) -> None:
    while not so():  # noqa: ASYNC110 (nothing tells of a line in the log)
        await asyncio.sleep(0.02)


async def test_a_start_waits_for_disk_space(
    full_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = attrs.evolve(
        options(full_disk, f"sqlite:///{full_disk / 'b.sqlite'}", 0), retry_interval=0.1
    )
    with bound("127.0.0.1", 0) as sockets:
        starting = asyncio.create_task(service._started(wanted, sockets, asyncio.Event()))
        async with asyncio.timeout(30):
            await until(lambda: any("is full" in one.getMessage() for one in caplog.records))
        assert not starting.done()
        (full_disk / "ballast").unlink()
        started = await starting
        assert started is not None
        node, runner = started
        await node.store.ready()
        await runner.cleanup()
        await node.stop()
