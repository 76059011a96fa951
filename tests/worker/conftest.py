import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from boxsched.worker.supervisor import containment
from tests.worker.fleet import Fleet
from tests.worker.site import Site, eventually

if sys.platform != "linux":
    collect_ignore_glob = ["test_*"]  # jobs run on Linux


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    """A started agent with the process driver. What it still runs is ended afterwards."""
    site = Site(tmp_path / "worker")
    await site.agent.start()
    yield site
    await _end(site)


@pytest.fixture
async def make_site(tmp_path: Path) -> AsyncIterator[Callable[..., Site]]:
    made: list[Site] = []

    def make(**options: object) -> Site:
        made.append(Site(tmp_path / f"worker-{len(made)}", **options))
        return made[-1]

    yield make
    for site in made:
        await _end(site)


async def _end(site: Site) -> None:
    """Nothing of a test goes on behind it."""
    if site.options["driver"] == "process" and site.folder.is_dir():
        site.store.away = None
        site.agent._driver.__dict__["_stop_grace"] = 0.0
        await site.agent.reconcile([])
        await eventually(lambda: not list(site.folder.glob("w*-*-*")))
        await site.agent.close()


@pytest.fixture(params=["cgroup", "descent"])
def held_by(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a cgroup for each job, and on a machine where none can be made."""
    if request.param == "descent":
        monkeypatch.setattr(containment, "cgroup_base", lambda: None)
    elif containment.cgroup_base() is None:
        pytest.skip("no cgroup v2 that may be written to")
    return str(request.param)


@pytest.fixture
async def fleet(tmp_path: Path) -> AsyncIterator[Fleet]:
    """Nodes and external workers; see ``tests/worker/fleet.py``."""
    fleet = Fleet(tmp_path)
    yield fleet
    await fleet.close()
