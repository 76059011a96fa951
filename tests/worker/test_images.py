"""Jobs in an image: a folder with another system, which a worker allows."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from boxsched.protocol.assignments import JobSecret
from boxsched.states import Result
from boxsched.worker.agent.images import Images, image_folders
from tests.worker.conftest import end, needs_bubblewrap
from tests.worker.harness import AgentHarness, assigned, isolated
from tests.worker.test_git import repository

__all__ = ["repository"]

BUSYBOX = shutil.which("busybox")
needs_busybox = pytest.mark.skipif(BUSYBOX is None, reason="no busybox (static)")


@pytest.fixture
def tmp_path(reachable_folder: Path) -> Path:
    return reachable_folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A system of busybox alone, in a folder of images."""
    root = tmp_path / "images/busybox"
    for name in ("bin", "etc", "proc", "tmp", "usr"):
        (root / name).mkdir(parents=True)
    (root / "etc/os-release").write_text("NAME=tiny\n")
    (root / "sbin").symlink_to("bin")
    if BUSYBOX is not None:
        shutil.copy(BUSYBOX, root / "bin/busybox")
        for name in ("sh", "cat", "ls", "id", "touch", "grep", "sleep", "rev"):
            (root / "bin" / name).symlink_to("busybox")
    return root


@pytest.fixture
async def harness(tmp_path: Path, image: Path) -> AsyncIterator[AgentHarness]:
    folder = tmp_path / "worker"
    harness = AgentHarness(
        folder,
        driver="bubblewrap",
        isolation=isolated(folder, readable=(), repositories=True),
        images=Images("builder-1", image_folders([image.parent])),
    )
    await harness.agent.start()
    yield harness
    await end(harness)


@needs_bubblewrap
@needs_busybox
async def test_a_job_sees_the_system_of_its_image_and_its_own_box(
    harness: AgentHarness, image: Path, repository: Path
) -> None:
    """Behind folders that others may not enter, too. Git is the worker's."""
    image.parent.chmod(0o700)
    finished = await harness.run(
        "cat /etc/os-release; cat file; ls /usr",
        "touch file2 ~/x /tmp/y; echo it\\'s $(rev $KEY)",
        "touch /etc/x /x /bin/x || exit 6",
        image=f"dir:{image}",
        repository=str(repository),
        secrets=(JobSecret("KEY", "terces", file=True),),
        show_commands=True,
    )
    said = harness.log().decode()
    assert (finished.result, finished.exit_status) == (Result.FAILED, 6), (finished, said)
    assert "NAME=tiny\nsecond\n" in said and "it's secret\n" in said
    assert "+ cat /etc/os-release; cat file; ls /usr\n" in said
    assert said.count("Read-only file system") == 3


@needs_bubblewrap
@needs_busybox
async def test_nothing_outlives_a_job_in_an_image(harness: AgentHarness, image: Path) -> None:
    word = f"54321.{os.getpid()}"
    finished = await harness.run(f"(sleep {word} &) ; exit 0", image=f"dir:{image}")
    assert finished.result is Result.PASSED
    assert subprocess.run(["pgrep", "-f", f"sleep {word}"], check=False).returncode == 1  # noqa: ASYNC221


@needs_bubblewrap
async def test_only_folders_of_images_are_images(
    harness: AgentHarness, image: Path, tmp_path: Path
) -> None:
    (image.parent / "link").symlink_to("/")
    (image.parent / "empty").mkdir()
    allowed = "is not in a folder of images of builder-1: start it with --image-dir"
    for number, (path, said) in enumerate(
        [
            ("/", f"/ {allowed}"),
            ("/etc", f"/etc {allowed}"),
            (f"{image}/../..", f"{image}/../.. {allowed}"),
            (f"{image.parent}/link", f"{image.parent}/link {allowed}"),
            (f"{image.parent}-2", f"{image.parent}-2 {allowed}"),
            (f"{image.parent}/none", f"builder-1 has no image {image.parent}/none"),
            (f"{image.parent}/empty", f"the image {image.parent}/empty has no /bin/sh"),
        ],
        1,
    ):
        await harness.agent.reconcile([assigned(number, "true", image=f"dir:{path}")])
        finished = await harness.end(number)
        assert (finished.reason, finished.not_begun) == (said, False)
    assert harness.agent.problem is None


@needs_bubblewrap
async def test_an_image_that_cannot_be_started_is_the_jobs_failure(
    harness: AgentHarness, image: Path
) -> None:
    (image / "bin/sh").unlink(missing_ok=True)
    (image / "bin/sh").write_text("not a program")
    finished = await harness.run("true", image=f"dir:{image}")
    assert finished.result is Result.FAILED and not finished.not_begun
    assert (finished.reason or "").startswith(
        "cannot start the image: cannot isolate jobs: bwrap: "
    )
    assert harness.agent.problem is None


@needs_bubblewrap
async def test_an_image_with_the_workers_own_files_is_refused(
    tmp_path: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    harness = make_harness(driver="bubblewrap", images=Images("w", image_folders([tmp_path])))
    await harness.agent.start()
    finished = await harness.run("true", image=f"dir:{tmp_path}")
    assert finished.reason == f"{tmp_path} contains files of w"
    finished = await harness.run_also(2, "true", image=f"dir:{harness.folder}")
    assert finished.reason == f"{harness.folder} contains files of w"


async def test_a_worker_without_isolation_or_registry_says_what_to_change(
    tmp_path: Path, make_harness: Callable[..., AgentHarness]
) -> None:
    harness = make_harness(driver="process", images=Images("builder-1"))
    await harness.agent.start()
    finished = await harness.run("true", image="dir:/srv/images/a")
    assert finished.reason == (
        "builder-1 does not isolate jobs, so it cannot run one in dir:/srv/images/a: "
        "start it with --box-driver bubblewrap"
    )
    finished = await harness.run_also(2, "true", image="debian:12")
    assert finished.reason == (
        "builder-1 runs no jobs in images such as debian:12: start a worker with "
        "--box-driver podman, and give its Boxes a type that the job names as box_type"
    )
    assert finished.result is Result.FAILED and not finished.not_begun
