"""Servers for all fault tests of a session; a database and a cluster for each test."""

import statistics
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.bus.redis_server import Server, served
from tests.faults.cluster import Cluster, closing_cluster
from tests.faults.postgres import Postgres, durable

IDLE_BOXES = 40  # of each worker

Figure = Callable[[str, float], None]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A test that kills or freezes it must restore it."""
    with durable() as server:
        yield server


@pytest.fixture
async def cluster(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Cluster]:
    """A cluster for one test, without Redis; the test adds nodes and workers."""
    with postgres.database() as url:
        async with closing_cluster(Cluster(tmp_path, postgres, url)) as cluster:
            yield cluster


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_cluster(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Cluster]:
    """A cluster for a module: each test undoes its faults."""
    with postgres.database() as url:
        async with closing_cluster(Cluster(tmp_path_factory.mktemp("c"), postgres, url)) as cluster:
            yield cluster


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It saves its data every second."""
    options = ("--appendonly", "yes", "--appendfsync", "everysec")
    with served(tmp_path_factory.mktemp("redis"), *options) as server:
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_cluster_with_redis(
    postgres: Postgres, tmp_path_factory: pytest.TempPathFactory, redis_server: Server
) -> AsyncIterator[Cluster]:
    folder = tmp_path_factory.mktemp("c")
    with postgres.database() as url:
        async with closing_cluster(Cluster(folder, postgres, url, redis_server.url)) as cluster:
            yield cluster


@pytest_asyncio.fixture(loop_scope="module")
async def idle_boxes(
    postgres: Postgres, redis_server: Server, tmp_path: Path
) -> AsyncIterator[Cluster]:
    """A cluster for one test: two nodes and two workers, whose jobs run nothing and pass."""
    with postgres.database() as url:
        async with closing_cluster(Cluster(tmp_path, postgres, url, redis_server.url)) as cluster:
            await cluster.add_nodes(2)
            for _ in range(2):
                await cluster.add_worker(IDLE_BOXES, "--box-driver", "none")
            await cluster.put_project({"name": "j", "commands": ["false"]})
            yield cluster


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Figure:
    """Records measurements, which are shown at the end for people; no test depends on them."""

    def note(what: str, value: float) -> None:
        record_property(f"figure {what}", value)

    return note


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the last output of all processes of the cluster of a failed test."""
    report = yield
    if report.failed:
        for cluster in _clusters(item):
            report.sections.append(("what its processes said", cluster.logs()))
            cluster.broken = True
    return report


def pytest_runtest_setup(item: pytest.Item) -> None:
    if any(cluster.broken for cluster in _clusters(item)):
        pytest.skip("a test before left this cluster broken")


def _clusters(item: pytest.Item) -> list[Cluster]:
    found = [one for one in getattr(item, "funcargs", {}).values() if isinstance(one, Cluster)]
    return list({id(one): one for one in found}.values())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures: dict[str, list[float]] = {}
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    for report in reports:
        for name, value in report.user_properties:
            if name.startswith("figure ") and report.when == "call":
                figures.setdefault(name.removeprefix("figure "), []).append(float(str(value)))
    if figures:
        terminalreporter.section("figures")
    for name, values in sorted(figures.items()):
        median, most = statistics.median(values), max(values)
        terminalreporter.line(f"{name}: median {median:.3f}, most {most:.3f} of {len(values)}")
