"""Automatic deploys without a service: which are submitted, how often, and what follows."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from boxsched.api.submitting.branch_patterns import Compiler
from boxsched.api.submitting.known_projects import Known, parsed
from boxsched.automation import deploys as module
from boxsched.automation.deploys import AT_ONCE, TRIES, AutomaticDeploys
from boxsched.errors import BoxschedError, NotFound, StoreAway
from boxsched.model import DEFAULT_ORGANIZATION, Kind, OrganizationId, ProjectId, WorkloadId
from boxsched.protocol.batches import DeployDue
from boxsched.protocol.shards import SHARD, Project
from boxsched.states import Result
from boxsched.store.records import NewWorkload, ProjectChanged, Submitted
from tests.organizations import organization as organization_of

JOBS = [{"name": "ship", "commands": ["make ship"]}]
AUTOMATIC = {"strategy": "automatic", "branch": "main", "jobs": JOBS}


def project(**changes: Any) -> Project:
    values = {"id": ProjectId(3), "name": "web", "version": 7, "max_boxes": None} | changes
    settings = json.dumps({"servers": {"prod": AUTOMATIC}} | values.pop("settings", {}))
    return SimpleNamespace(settings=settings, **values)  # type: ignore[return-value]


def passed(id_: int = 5, **changes: Any) -> Any:
    return SimpleNamespace(**{
        "id": WorkloadId(id_), "number": 9, "project": ProjectId(3), "project_name": "web",
        "organization": DEFAULT_ORGANIZATION,
        "kind": Kind.BUILD, "result": Result.PASSED, "branch": "main", "tag": None,
        "commit": "0123abc", "message": "Mend it", "author": "Ada", "from_fork": False,
    } | changes)  # fmt: skip


class Service:
    """A node with its store, and the projects as they are read again."""

    def __init__(self) -> None:
        self.due: list[DeployDue] = []
        self.dropped: list[DeployDue] = []
        self.builds = {5: passed()}
        self.newer = False
        self.project: Project | None = project()
        self.plan: int | None = None
        self.submitted: list[NewWorkload] = []
        self.outcomes: list[Any] = []
        self.reads = 0
        self.looks = asyncio.Event()
        self.away = 0
        self.store = self
        self.clock = SimpleNamespace(now=lambda: 50.0)
        self.deploys_due = asyncio.Event()
        self.leadership = SimpleNamespace(led={SHARD})

    # the store
    async def deploys_due_(self, limit: int) -> Sequence[DeployDue]:
        self.looks.set()
        if self.away:
            self.away -= 1
            raise StoreAway("for the test")
        return self.due[:limit]

    async def drop_due(self, due: DeployDue) -> None:
        self.dropped.append(due)
        self.due.remove(due)

    async def subject(self, build: int) -> Any:
        return self.builds.get(build)

    async def newer_there(self, project: int, server: str, build: int) -> bool:
        assert (project, server, build) == (3, "prod", 5)
        return self.newer

    # the projects
    async def fresh(self, name: str, organization: OrganizationId) -> Known:
        assert organization == DEFAULT_ORGANIZATION
        assert name == "web"
        self.reads += 1
        if self.project is None:
            raise NotFound("there is no project web")
        settings = parsed(self.project.settings)
        return Known.of(
            self.project, organization_of(self.plan), settings, await Compiler().compiled(settings)
        )

    # the node
    async def submit(self, new: NewWorkload) -> Any:
        self.submitted.append(new)
        return self.outcomes.pop(0) if self.outcomes else Submitted(WorkloadId(6), 10, False)


@pytest.fixture
def service() -> Service:
    return Service()


def deploys(service: Any) -> AutomaticDeploys:
    made = AutomaticDeploys(service, service)
    store = SimpleNamespace(
        deploys_due=service.deploys_due_, drop_due=service.drop_due, subject=service.subject,
        newer_there=service.newer_there,
    )  # fmt: skip
    made._store = store  # type: ignore[assignment]
    return made


async def once(service: Service) -> list[NewWorkload]:
    service.due = [DeployDue(WorkloadId(5), "prod")]
    assert not await deploys(service).run_once()
    assert service.dropped == [DeployDue(WorkloadId(5), "prod")]
    return service.submitted


async def test_a_passed_build_is_deployed_as_itself(service: Service) -> None:
    (new,) = await once(service)
    assert (new.kind, new.server, new.build, new.commit) == (Kind.DEPLOY, "prod", 5, "0123abc")
    assert (new.project, new.project_version, new.created_at) == (3, 7, 50.0)
    assert (new.automatic, new.submitted_by) == (True, "automatic")
    assert new.idempotency is not None
    assert (new.idempotency.scope, new.idempotency.key) == ("automatic", "5/prod")
    assert [job.name for job in new.jobs] == ["ship"]


@pytest.mark.parametrize(
    ("servers", "default", "branch", "deployed"),
    [
        ({"prod": AUTOMATIC}, None, "main", True),
        ({"prod": AUTOMATIC}, None, "next", False),
        ({"prod": AUTOMATIC}, None, None, False),
        ({"prod": AUTOMATIC | {"branch": None}}, "next", "next", True),
        ({"prod": AUTOMATIC | {"branch": None}}, "next", "main", False),
        ({"prod": AUTOMATIC | {"branch": None}}, None, "main", True),
        ({"prod": AUTOMATIC | {"strategy": "manual"}}, None, "main", False),
        ({"test": AUTOMATIC}, None, "main", False),
        ({}, None, "main", False),
    ],
)
async def test_only_a_server_that_follows_the_branch_gets_a_deploy(
    service: Service, servers: dict[str, Any], default: str | None, branch: str, deployed: bool
) -> None:
    service.project = project(settings={"servers": servers, "default_branch": default})
    service.builds[5] = passed(branch=branch)
    assert bool(await once(service)) is deployed


@pytest.mark.parametrize(
    "change",
    [
        lambda service: service.builds.clear(),
        lambda service: service.__setattr__("newer", True),
        lambda service: service.__setattr__("project", project(id=ProjectId(4))),
        lambda service: service.__setattr__("project", None),
        lambda service: service.__setattr__("plan", 0),
        lambda service: service.__setattr__("project", project(max_boxes=0)),
    ],
    ids=["no build", "newer", "another project", "no project", "plan", "project's limit"],
)
async def test_what_cannot_be_deployed_is_left_out(service: Service, change: Any) -> None:
    change(service)
    assert await once(service) == []


async def test_a_deploy_that_is_refused_is_logged(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    service.plan = 0
    await once(service)
    assert "w5 is not deployed to 'prod' automatically: it needs 1 Boxes" in caplog.text


async def test_settings_that_change_are_read_again(service: Service) -> None:
    service.outcomes = [ProjectChanged()] * (TRIES - 1)
    await once(service)
    assert (len(service.submitted), service.reads) == (TRIES, TRIES)
    service.outcomes, service.due = [ProjectChanged()] * TRIES, [DeployDue(WorkloadId(5), "prod")]
    with pytest.raises(BoxschedError, match="keep changing"):
        await deploys(service).run_once()
    assert service.due, "it stays due"


async def test_any_other_answer_to_a_submission_is_the_end_of_it(service: Service) -> None:
    service.outcomes = [object()]
    assert len(await once(service)) == 1


async def test_there_may_be_more_after_a_full_page(service: Service) -> None:
    service.builds.clear()
    service.due = [DeployDue(WorkloadId(n), "prod") for n in range(AT_ONCE + 1)]
    assert await deploys(service).run_once()
    assert len(service.dropped) == AT_ONCE
    assert not await deploys(service).run_once()
    assert service.due == []


async def until(what: Any) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110 -- nothing is told of it
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running(service: Service) -> Any:
    task = asyncio.create_task(deploys(service).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_all_pages_are_processed_when_something_is_due(service: Service) -> None:
    service.builds.clear()
    service.due = [DeployDue(WorkloadId(n), "prod") for n in range(2 * AT_ONCE + 1)]
    async with running(service):
        service.deploys_due.set()
        await until(lambda: not service.due)
    assert not service.deploys_due.is_set()


async def test_an_outage_ends_a_round_and_the_next_one_tries_again(service: Service) -> None:
    service.away, service.due = 1, [DeployDue(WorkloadId(5), "prod")]
    async with running(service):
        service.deploys_due.set()
        await until(lambda: not service.away)
        assert service.due
        service.deploys_due.set()
        await until(lambda: not service.due)


async def test_a_lost_call_is_made_up_for(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_SECONDS", 0.0)
    service.due = [DeployDue(WorkloadId(5), "prod")]
    async with running(service):
        await until(lambda: not service.due)


async def test_a_node_that_does_not_lead_deploys_nothing(service: Service) -> None:
    service.leadership.led = set()
    service.due = [DeployDue(WorkloadId(5), "prod")]
    async with running(service):
        for _ in range(3):
            service.deploys_due.set()
            await until(lambda: not service.deploys_due.is_set())
            await asyncio.sleep(0)
        assert not service.looks.is_set()
        service.leadership.led = {SHARD}
        service.deploys_due.set()
        await until(lambda: not service.due)
