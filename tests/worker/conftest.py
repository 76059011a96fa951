import functools
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from boxsched.model import JobId
from boxsched.protocol.ghosts import HeldAttempt
from boxsched.worker.agent import bubblewrap, limiting
from boxsched.worker.agent.bubblewrap import BoxOptions
from boxsched.worker.agent.limiting import CannotLimit
from boxsched.worker.supervisor import containment
from boxsched.worker.supervisor.limits import Limits
from tests.worker.harness import AgentHarness, eventually
from tests.worker.nodes_and_workers import NodesAndWorkers

if sys.platform != "linux":
    collect_ignore_glob = ["test_*"]  # jobs run on Linux


@functools.cache
def _why_not_isolated() -> str | None:
    return bubblewrap.probe(bubblewrap.isolation(BoxOptions()))


@pytest.fixture
def reachable_folder() -> Iterator[Path]:
    """A folder that other users can reach; into ``tmp_path`` only its owner may go."""
    folder = Path(tempfile.mkdtemp(prefix="boxsched-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # a supervisor may be removing a Box


needs_bubblewrap = pytest.mark.skipif(
    _why_not_isolated() is not None, reason=f"no bubblewrap: {_why_not_isolated()}"
)


@functools.cache
def _why_not_limited() -> str | None:
    try:
        limiting.limiting(Limits(memory=1 << 30, cpus=1.0, processes=100))
    except CannotLimit as error:
        return str(error)
    return None


needs_limits = pytest.mark.skipif(
    _why_not_limited() is not None, reason=f"no limits: {_why_not_limited()}"
)


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[AgentHarness]:
    """A started agent with the process driver. Jobs that still run are ended afterwards."""
    harness = AgentHarness(tmp_path / "worker")
    await harness.agent.start()
    yield harness
    await end(harness)


@pytest.fixture
async def make_harness(tmp_path: Path) -> AsyncIterator[Callable[..., AgentHarness]]:
    made: list[AgentHarness] = []

    def make(**options: object) -> AgentHarness:
        made.append(AgentHarness(tmp_path / f"worker-{len(made)}", **options))
        return made[-1]

    yield make
    for harness in made:
        await end(harness)


async def end(harness: AgentHarness) -> None:
    """End everything that the test started."""
    if harness.options["driver"] != "none" and harness.folder.is_dir():
        harness.store.away = None
        harness.agent._driver.__dict__["_stop_grace"] = 0.0
        await harness.agent.reconcile([])
        harness.agent.end_ghosts([(JobId(one.job), one.lease_token) for one in named(harness)])
        await eventually(lambda: not list(harness.folder.glob("w*-*-*")))
        await harness.agent.close()


def named(harness: AgentHarness) -> tuple[HeldAttempt, ...]:
    return harness.agent.ghosts or ()


@pytest.fixture(params=["cgroup", "descent"])
def containment_kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run with a cgroup for each job, and as on a machine without cgroups."""
    if request.param == "descent":
        monkeypatch.setattr(containment, "cgroup_base", lambda: None)
    elif containment.cgroup_base() is None:
        pytest.skip("no cgroup v2 that may be written to")
    return str(request.param)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[NodesAndWorkers]:
    """Nodes and external workers; see ``tests/worker/nodes_and_workers.py``."""
    cluster = NodesAndWorkers(tmp_path)
    yield cluster
    await cluster.close()
