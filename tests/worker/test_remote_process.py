"""``boxsched worker`` as a process: its output, its end, and its jobs when it is killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from boxsched.cli import main
from boxsched.model import Kind
from boxsched.protocol import wire
from boxsched.states import Result
from tests.worker.conftest import needs_bubblewrap
from tests.worker.fake_node import TOKEN, FakeNode
from tests.worker.harness import LIMIT_SECONDS, alive, assigned, eventually, job, pid_in
from tests.worker.nodes_and_workers import NodesAndWorkers, end_jobs

PROJECT = Path(__file__).resolve().parents[2]
LOST_AFTER_SECONDS = 2.0
SLACK_SECONDS = 1.0 + 1.0  # a supervisor checks once per second; more for a busy machine


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the variables of the tests that the command would read."""
    for name in [name for name in os.environ if name.startswith("BOXSCHED_")]:
        monkeypatch.delenv(name)


class Process:
    def __init__(self, data: Path, *options: str, **environment: str) -> None:
        self.data = data
        self.spoken = data.parent / f"{data.name}.err"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "boxsched", "worker", "--data", str(data), *options],
            cwd=PROJECT,
            env={**os.environ, "BOXSCHED_BOX_DRIVER": "process", **environment},
            stdout=subprocess.PIPE,
            stderr=self.spoken.open("w"),
            text=True,
        )

    def send(self, sign: signal.Signals) -> None:
        self.process.send_signal(sign)

    def ended(self) -> tuple[int, str, str]:
        """(exit status, standard output, standard error)"""
        out, _ = self.process.communicate(timeout=LIMIT_SECONDS)
        return self.process.returncode, out, self.spoken.read_text()


Starting = Callable[..., Process]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Starting]:
    started: list[Process] = []

    def begin(*options: str, data: str = "data", **environment: str) -> Process:
        started.append(Process(tmp_path / data, *options, **environment))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()
    for data in {each.data for each in started}:
        await end_jobs(data)


async def test_a_worker_prints_where_it_is_connected_and_ends_cleanly(
    cluster: NodesAndWorkers, start: Starting, tmp_path: Path
) -> None:
    node = await cluster.node()
    await node.want(assigned(1, f"echo $$ > {tmp_path}/pid; echo ready; exec sleep 100"))
    worker = start("--name", "builder", BOXSCHED_TOKEN=TOKEN, BOXSCHED_URL=f"{node.url},{node.url}")
    await node.store.until(lambda: b"ready" in node.store.log_of(job(1)))
    assert TOKEN not in Path(f"/proc/{worker.process.pid}/cmdline").read_text()
    worker.send(signal.SIGTERM)
    status, said, spoken = worker.ended()
    assert (status, said) == (0, f"connected to {node.url}\n")
    assert f"connected to {node.url} as worker builder (7)" in spoken
    assert "Traceback" not in spoken
    await node.until(lambda: not node.connections)
    assert alive(pid_in(tmp_path / "pid"))


@needs_bubblewrap
async def test_its_jobs_are_isolated_if_asked_for(
    cluster: NodesAndWorkers, start: Starting, tmp_path: Path
) -> None:
    node = await cluster.node()
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text(TOKEN)
    await node.want(assigned(1, f"cat {tmp_path}/token || pwd"))
    worker = start(
        "--url", node.url, "--token-file", f"{tmp_path}/token", BOXSCHED_BOX_DRIVER="bubblewrap"
    )
    await node.store.until(lambda: node.store.finished(1))
    assert node.store.log_of(job(1)).endswith(b"/box/workspace\n")
    assert "box_driver=bubblewrap" in node.hellos[0].fingerprint
    worker.send(signal.SIGTERM)
    _, _, spoken = worker.ended()
    assert "isolated by bubblewrap" in spoken and "Box driver bubblewrap" in spoken


async def test_a_worker_prints_what_is_wrong_with_the_token(
    cluster: NodesAndWorkers, start: Starting, tmp_path: Path
) -> None:
    node = await cluster.node()
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text("a wrong one\n")
    worker = start("--url", node.url, "--token-file", str(tmp_path / "token"))
    await eventually(lambda: worker.process.poll() is not None)
    status, said, spoken = worker.ended()
    assert (status, said) == (1, "")
    assert spoken.startswith(
        f"boxsched: {node.url}: the token is invalid or expired (401); create one"
    )
    assert spoken.count("\n") == 1


async def test_a_token_file_is_read_again(
    cluster: NodesAndWorkers, start: Starting, tmp_path: Path
) -> None:
    node = await cluster.node()
    (tmp_path / "token").touch(0o600)
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    start("--url", node.url, "--token-file", str(tmp_path / "token"), "--box-driver", "none")
    await node.connected()
    node.token = "another"
    (tmp_path / "token").write_text("another")
    node.connections[0].cut()
    await node.until(lambda: len(node.hellos) == 2)


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620])
def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(mode)
    options = ("--url", "http://127.0.0.1:1", "--token-file", str(tmp_path / "token"))
    ended = CliRunner().invoke(main, ["worker", "--data", str(tmp_path), *options])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert f"other users can read it (mode {mode:04o})" in ended.stderr
    assert f"chmod 600 {tmp_path}/token" in ended.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--token", "x"), "--url"),
        (("--token", "x", "--url", "ci.example.org"), "--url"),
        (("--url", "http://127.0.0.1:1"), "boxsched token create --role worker"),
        (("--url", "http://127.0.0.1:1", "--token-file", "/none"), "--token-file"),
        (("--url", "http://127.0.0.1:1", "--token", "x", "--name", "a\nb"), "--name"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    ended = CliRunner().invoke(main, ["worker", "--data", str(tmp_path), *options])
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert said in ended.stderr
    assert ended.stderr.count("\n") == 1


# --- Lost workers ---------------------------------------------------------------------------


def ticking(ledger: Path) -> str:
    """A command that writes the time repeatedly; its process is the child of a detached one."""
    tick = f"while :; do cut -d' ' -f1 /proc/uptime >> {ledger}; sleep 0.05; done"
    return f'(setsid bash -c "{tick}" &); echo ready; sleep 100'


def last_tick(ledger: Path) -> float:
    return float(ledger.read_text().split()[-1])


async def running(node: FakeNode, start: Starting, ledger: Path) -> Process:
    """A worker with a running build and deploy."""
    deploy = assigned(2, ticking(ledger / "deploy"), kind=Kind.DEPLOY, server="production")
    await node.want(assigned(1, ticking(ledger / "build")), deploy)
    worker = start("--url", node.url, "--boxes", "2", BOXSCHED_TOKEN=TOKEN)
    await node.store.until(lambda: all(b"ready" in node.store.log_of(job(i)) for i in (1, 2)))
    await eventually(lambda: (ledger / "build").exists() and (ledger / "deploy").exists())
    return worker


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_build_ends_in_time_when_its_agent_is_killed_or_frozen(
    cluster: NodesAndWorkers, start: Starting, tmp_path: Path, sign: signal.Signals
) -> None:
    node = await cluster.node(lost_after=LOST_AFTER_SECONDS)
    worker = await running(node, start, tmp_path)
    worker.send(sign)
    gone = time.clock_gettime(time.CLOCK_BOOTTIME)
    await eventually((worker.data / "worker/w1-1-1/result").exists)
    assert last_tick(tmp_path / "build") <= gone + LOST_AFTER_SECONDS + SLACK_SECONDS
    before = last_tick(tmp_path / "deploy")
    await eventually(lambda: last_tick(tmp_path / "deploy") > before + 0.2)
    assert node.store.finished(1) is None

    if sign is signal.SIGSTOP:
        worker.send(signal.SIGCONT)
    else:
        start("--url", node.url, BOXSCHED_TOKEN=TOKEN)
    await node.store.until(lambda: node.store.finished(1))
    finished = node.store.finished(1)
    assert finished is not None
    assert finished.result is Result.FAILED
    assert finished.reason == "lost: no node answered for 2 s"
    assert node.store.finished(2) is None


async def test_a_build_continues_if_its_killed_worker_returns_in_time(
    cluster: NodesAndWorkers, start: Starting, tmp_path: Path
) -> None:
    node = await cluster.node(lost_after=60.0)
    gate = tmp_path / "gate"
    await node.want(assigned(1, f"echo one; until [ -e {gate} ]; do sleep 0.01; done; echo two"))
    worker = start("--url", node.url, BOXSCHED_TOKEN=TOKEN)
    await node.store.until(lambda: b"one" in node.store.log_of(job(1)))
    worker.send(signal.SIGKILL)
    worker.process.wait()
    gate.touch()
    start("--url", node.url, BOXSCHED_TOKEN=TOKEN)
    await node.store.until(lambda: node.store.finished(1))
    assert node.store.log_when_finished[job(1)] == b"one\ntwo\n"
    assert [said.holds for said in node.hellos if isinstance(said, wire.Hello)][-1] == (
        (job(1), 1),
    )
