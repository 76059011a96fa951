"""An external worker without a node: what it says about itself, and what it does with answers."""

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from boxsched import __version__
from boxsched.model import JobId
from boxsched.protocol import wire
from boxsched.protocol.fingerprint import parts
from boxsched.protocol.timing import LOST_AFTER_SECONDS
from boxsched.worker.agent.agent import Agent
from boxsched.worker.agent.site import boot_id
from boxsched.worker.remote import identity as keeping
from boxsched.worker.remote import worker as module
from boxsched.worker.remote.discovery import Discovery, NodeAddress, SystemNames, parse_source
from boxsched.worker.remote.link import Lost
from boxsched.worker.remote.pace import Pace
from boxsched.worker.remote.worker import RemoteWorker, WorkerOptions

OPTIONS = WorkerOptions(
    token=lambda: "secret", data=Path("/nowhere"), name="builder", boxes=3, box_type="large",
    box_driver="process", log_limit=1 << 20, stop_grace=7.5,
)  # fmt: skip
WELCOME = wire.Welcome(5, "ours", 90.0)


class FakeAgent(Agent):
    """An agent that runs nothing; it records its options and its calls."""

    made: list["FakeAgent"]
    holds: tuple[Any, ...] = ()  # type: ignore[assignment]
    problem: str | None = None  # type: ignore[assignment]
    ended_ghosts = 0  # type: ignore[assignment]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options | {"driver": "none", "isolation": None})
        self.options = options
        self.calls: list[Any] = []
        self.made.append(self)

    async def start(self) -> None:
        self.calls.append("start")

    async def close(self) -> None:
        self.calls.append("close")

    def heartbeat_answered(self, at: float, lost_after: float) -> None:
        self.calls.append((at, lost_after))

    def drop(self, stale: Any) -> None:
        self.calls.append(("drop", stale))


@pytest.fixture
def agents(monkeypatch: pytest.MonkeyPatch) -> list[FakeAgent]:
    FakeAgent.made = []
    monkeypatch.setattr(module, "Agent", FakeAgent)
    return FakeAgent.made


@pytest.fixture
def node() -> NodeAddress:
    return NodeAddress(parse_source("http://n:1").url)


Make = Callable[..., RemoteWorker]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    def made(**options: Any) -> RemoteWorker:
        connected: list[NodeAddress] = []
        one = RemoteWorker(
            attrs.evolve(OPTIONS, data=tmp_path, **options),
            Discovery([], SystemNames()),
            connected=connected.append,
            chance=random.Random(1),
            pace=Pace(),
        )
        vars(one)["first"] = connected
        return one

    return made


async def test_a_worker_says_what_it_is_and_can_do(make: Make, agents: list[FakeAgent]) -> None:
    worker = make()
    worker._identity = "a" * 32
    said = worker.hello()
    assert (said.version, said.identity, said.name) == (wire.VERSION, "a" * 32, "builder")
    assert said.box_types == ("large",) * 3
    assert parts(said.fingerprint).items() >= {
        "protocol": str(wire.VERSION), "version": __version__, "box_driver": "process",
        "log_limit": str(1 << 20), "stop_grace": "7.5",
    }.items()  # fmt: skip
    assert (said.boot, said.stop_grace) == (boot_id(), 7.5)
    assert said.takes_secrets and said.ends_when_drained
    assert (said.holds, said.problem) == ((), None)
    worker._cluster = "ours"
    agent: Any = await worker._started_agent()
    agent.holds, agent.problem = ((1, 2),), "no git\nhere"
    said = worker.hello()
    assert (said.holds, said.problem, worker.jobs) == (((1, 2),), "no git?here", 1)
    agent.ended_ghosts = 1
    assert worker.jobs == 0, "a person looks at it; the worker does not wait for that"
    assert worker.token() == "secret"


async def test_the_agent_gets_the_workers_options(make: Make, agents: list[FakeAgent]) -> None:
    walls: Any = SimpleNamespace()
    worker = make(isolation=walls)
    worker._cluster = "ours"
    agent = await worker._started_agent()
    assert await worker._started_agent() is agent
    (one,) = agents
    assert one.calls == ["start"], "no node has answered yet"
    given = one.options
    assert given["folder"] == worker._options.data / keeping.JOBS
    assert (given["driver"], given["log_limit"], given["stop_grace"]) == ("process", 1 << 20, 7.5)
    assert (given["cluster"], given["isolation"]) == ("ours", walls)
    assert given["lost_after"] == LOST_AFTER_SECONDS, "builds end without a node, also at first"


async def test_the_first_node_decides_the_installation_and_is_announced_once(
    make: Make, agents: list[FakeAgent], node: NodeAddress
) -> None:
    worker: Any = make()
    await worker.welcome(node, WELCOME, 100.0)
    assert (worker.first, keeping.cluster(worker._options.data)) == ([node], "ours")
    await worker.welcome(node, attrs_welcome(lost_after=30.0), 200.0)
    assert worker.first == [node]
    await worker._started_agent()
    (agent,) = agents
    assert agent.options["lost_after"] == 30.0
    assert agent.calls == ["start", (200.0, 30.0)], "the lease counts from the Hello"
    with pytest.raises(Lost, match="another installation"):
        await worker.welcome(node, attrs_welcome(cluster="theirs", lost_after=1.0), 300.0)
    assert agent.calls == ["start", (200.0, 30.0)]
    assert keeping.cluster(worker._options.data) == "ours"


def attrs_welcome(*, cluster: str = "ours", lost_after: float = 90.0) -> wire.Welcome:
    return wire.Welcome(5, cluster, lost_after)


async def test_another_installation_after_a_start_ends_the_earlier_agent(
    make: Make, agents: list[FakeAgent], node: NodeAddress
) -> None:
    worker: Any = make()
    worker._cluster = "theirs"
    await worker._started_agent()
    await worker.welcome(node, WELCOME, 100.0)
    assert agents[0].calls == ["start", "close"], "it has no answer from its own nodes"
    assert keeping.cluster(worker._options.data) == "ours"
    await worker._started_agent()
    assert agents[1].options["cluster"] == "ours"
    assert agents[1].calls == ["start", (100.0, 90.0)]
    await worker._close_agent()
    await worker._close_agent()
    assert agents[1].calls[2:] == ["close"]
    assert worker.jobs == 0


async def test_differences_from_what_the_node_requires_are_logged(
    make: Make, node: NodeAddress, caplog: pytest.LogCaptureFixture
) -> None:
    await make().welcome(node, WELCOME, 100.0)
    assert "gives this worker no new jobs" not in caplog.text
    said = wire.Welcome(5, "ours", 90.0, differs=("no a", "no b"))
    await make().welcome(node, said, 100.0)
    assert "http://n:1 gives this worker no new jobs: no a; no b" in caplog.text


async def test_an_agent_learns_of_every_answer_and_a_later_one_of_the_newest(
    make: Make, agents: list[FakeAgent]
) -> None:
    worker = make()
    worker._cluster = "ours"
    for at in (100.0, 300.0, 200.0):
        worker.heartbeat_answered(at)
    worker.drop([(1, 2)])  # there is no agent yet
    await worker._started_agent()
    assert agents[0].calls == ["start", (300.0, LOST_AFTER_SECONDS)]
    worker.heartbeat_answered(400.0)
    worker.drop([(1, 2)])
    assert agents[0].calls[2:] == [(400.0, LOST_AFTER_SECONDS), ("drop", [(JobId(1), 2)])]
    assert worker.problem is None
