"""How long a job in an image takes, compared with ``podman run`` alone.

Run by hand, where podman works: ``python -m tests.bench.image_start [--runs N] [--image REF]``.
Jobs of a worker's agent and plain ``podman run --rm`` alternate, with the same image and options.
Prints the medians until the first command runs in the container, and until the end is known, in
milliseconds, and the ratios. Without ``--image``, a tiny image of busybox is made and removed.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from boxsched.worker.agent import podman as podman_module
from boxsched.worker.agent.images import Images
from boxsched.worker.agent.podman import REMOVE, Podman
from boxsched.worker.supervisor.limits import Limits
from tests.worker.conftest import end
from tests.worker.harness import AgentHarness, assigned, isolated

SAYS = "cat /proc/uptime"  # the time in the container, since the machine's start
WARM_UPS = 2


@attrs.frozen
class Run:
    """Seconds from the request: until the first command runs, and until its end is known."""

    first: float
    whole: float


def boot_time() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _run(began: float, said: bytes) -> Run:
    return Run(float(said.split()[0]) - began, boot_time() - began)


def alone(podman: Podman, image: str, workspace: str) -> Run:
    rm = () if REMOVE in podman.options else (REMOVE,)
    began = boot_time()
    done = subprocess.run(
        [
            *(*podman.command, "run", *rm, *podman.options, "--pull=never"),
            *("-v", f"{workspace}:/workspace", "--workdir", "/workspace"),
            *("--entrypoint", "", image, "/bin/sh", "-c", SAYS),
        ],
        env=dict(podman.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return _run(began, done.stdout)


async def job(harness: AgentHarness, number: int, image: str) -> Run:
    began = boot_time()
    await harness.agent.reconcile([assigned(number, SAYS, image=image)])
    finished = await harness.end(number)
    assert finished.exit_status == 0, finished
    return _run(began, harness.log(number))


@contextlib.contextmanager
def tiny_image() -> Iterator[str]:
    busybox = shutil.which("busybox")
    if busybox is None:
        sys.exit("busybox is not installed: name an image with --image")
    name = f"localhost/boxsched-bench-{os.getpid()}:1"
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "bin").mkdir()
        shutil.copy(busybox, root / "bin/busybox")
        for program in ("sh", "cat"):
            (root / "bin" / program).symlink_to("busybox")
        tar = subprocess.run(["tar", "-C", folder, "-c", "."], capture_output=True, check=True)
    subprocess.run(["podman", "import", "-", name], input=tar.stdout, check=True)
    try:
        yield name
    finally:
        subprocess.run(["podman", "rmi", "--force", name], check=False)


async def measure(podman: Podman, image: str, runs: int) -> tuple[list[Run], list[Run]]:
    """Return the runs of podman alone, and those of jobs."""
    folder = Path(tempfile.mkdtemp(prefix="boxsched-bench-"))
    folder.chmod(0o755)
    (folder / "workspace").mkdir()
    harness = AgentHarness(
        folder / "worker",
        driver="podman",
        isolation=isolated(folder / "worker", readable=(), repositories=True),
        images=Images("bench", podman=podman),
    )
    await harness.agent.start()
    plain, jobs = [], []
    try:
        for number in range(1, runs + WARM_UPS + 1):
            workspace = str(folder / "workspace")
            plain.append(await asyncio.to_thread(alone, podman, image, workspace))
            jobs.append(await job(harness, number, image))
    finally:
        await end(harness)
        shutil.rmtree(folder, ignore_errors=True)
    return plain[WARM_UPS:], jobs[WARM_UPS:]


def table(plain: list[Run], jobs: list[Run]) -> Iterator[str]:
    yield f"{'median of ' + str(len(jobs)):20} {'podman':>8} {'job':>8} {'ratio':>6}"
    for what, field in (("first command", "first"), ("end", "whole")):
        one, other = (
            statistics.median(getattr(run, field) * 1_000 for run in runs) for runs in (plain, jobs)
        )
        yield f"{what:20} {one:8.0f} {other:8.0f} {other / one:6.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--image")
    asked = parser.parse_args()
    podman = podman_module.podman(network=False, limits=Limits())
    if isinstance(podman, str):
        sys.exit(podman)
    with tiny_image() if asked.image is None else contextlib.nullcontext(asked.image) as image:
        plain, jobs = asyncio.run(measure(podman, image, asked.runs))
    print(*table(plain, jobs), sep="\n")


if __name__ == "__main__":
    main()
