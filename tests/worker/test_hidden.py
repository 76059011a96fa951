"""A job of the same user reads nothing of its supervisor, the spawner and the agent."""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from boxsched.worker.agent import readiness
from tests.worker import peeping
from tests.worker.fake_node import TOKEN
from tests.worker.harness import LIMIT_SECONDS, assigned, eventually, job
from tests.worker.nodes_and_workers import NodesAndWorkers

PROJECT = Path(__file__).resolve().parents[2]
PR_GET_DUMPABLE = 3
PEEP = f"{sys.executable} {peeping.__file__}"
ALL = " ".join(peeping.WAYS)

# Prints what it can do to each of its ancestors, to another process, and to itself.
JOB = f"""
sleep 300 & beside=$!
supervisor=$PPID
spawner=$(sed -n 's/^PPid:\\t//p' /proc/$supervisor/status)
agent=$(sed -n 's/^PPid:\\t//p' /proc/$spawner/status)
echo supervisor $({PEEP} $supervisor)
echo spawner $({PEEP} $spawner)
echo agent $({PEEP} $agent)
echo beside $({PEEP} $beside)
echo end
"""


# The superuser may read everything. Without capabilities, root is a user like others.
WITHOUT_RIGHTS = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]


@contextlib.asynccontextmanager
async def running_worker(*options: str) -> AsyncIterator[None]:
    prefix = WITHOUT_RIGHTS if os.geteuid() == 0 else []
    process = subprocess.Popen(  # noqa: ASYNC220 (it blocks for moments)
        [*prefix, sys.executable, "-m", "boxsched", "worker", *options],
        cwd=PROJECT,
        env=os.environ | {"BOXSCHED_TOKEN": TOKEN},
    )
    try:
        yield
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, LIMIT_SECONDS)


async def test_a_job_reads_nothing_of_its_worker(cluster: NodesAndWorkers, tmp_path: Path) -> None:
    node = await cluster.node()
    await node.want(assigned(1, JOB))
    options = ("--url", node.url, "--data", f"{tmp_path}/data", "--box-driver", "process")
    async with running_worker(*options):
        await node.store.until(lambda: node.store.finished(1))
        await node.want()
        await eventually(lambda: not list(tmp_path.glob("data/jobs/w*")))
    said = dict(line.split(" ", 1) for line in node.store.log_of(job(1)).decode().splitlines()[:4])
    reached = {who: text.partition(":")[2].strip() for who, text in said.items()}
    assert reached == {"supervisor": "", "spawner": "", "agent": "", "beside": ALL}


@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_service_hides_its_memory_before_it_opens_anything(tmp_path: Path, command: str) -> None:
    code = f"""
import boxsched.service, ctypes, sys
from boxsched.cli import main
async def serve(options):
    print("dumpable:", ctypes.CDLL(None).prctl({PR_GET_DUMPABLE}, 0, 0, 0, 0))
boxsched.service.serve = serve
main(["{command}", "--port", "1", "--data", sys.argv[1]])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.startswith("dumpable: 0\n"), done.stderr


def test_the_probes_of_a_workers_readiness_get_nothing_of_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BOXSCHED_TOKEN", TOKEN)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nenv > {tmp_path}/environment\n")
    program.chmod(0o755)
    assert readiness.check(str(tmp_path), [str(program)]) is None
    assert TOKEN not in (tmp_path / "environment").read_text()
