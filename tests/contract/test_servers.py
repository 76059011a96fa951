"""Servers: what is live and waiting, which builds are due, and which deploys are rollbacks."""

from boxsched.model import MAX_PAUSES, WorkloadId
from boxsched.protocol.batches import DeployDue, Live
from boxsched.protocol.shards import Project
from boxsched.store.records import NewWorkload, ProjectChanged, Submitted
from tests.contract.conftest import DatabaseUnderTest
from tests.contract.store_data import Leader, build, deploy
from tests.contract.test_pauses import fill, pause


class ProjectHistory:
    """Builds and deploys of a project, in short calls."""

    def __init__(self, leader: Leader, project: Project) -> None:
        self.leader, self.store, self.project = leader, leader.store, project

    async def build(self, branch: str = "main") -> Submitted:
        return await self.leader.submit(build(self.project, branch))

    def deploy(
        self, of: Submitted | None, server: str = "production", **more: object
    ) -> NewWorkload:
        return deploy(self.project, server, build=of and of.id, **more)

    async def deployed(
        self, of: Submitted | None, server: str = "production", *, automatic: bool = True
    ) -> WorkloadId:
        """Make a deploy that passed and is live."""
        made = await self.leader.submit(self.deploy(of, server, automatic=automatic))
        await self.leader.queue(made.id)
        await self.leader.start(made.id, 0)
        await self.leader.finish(made.id, 0)
        await self.leader.commit(live=(Live(self.project.id, server, made.id),))
        return made.id

    async def is_rollback(self, new: NewWorkload) -> bool:
        made = await self.store.workload((await self.leader.submit(new)).id)
        assert made is not None
        return made.rollback


async def project_history(leader: Leader, name: str = "web") -> ProjectHistory:
    return ProjectHistory(leader, await leader.project(name))


async def test_due_builds_are_listed_oldest_first(leader: Leader) -> None:
    web = await project_history(leader)
    first, second = (await web.build()).id, (await web.build()).id
    due = [DeployDue(second, "a"), DeployDue(first, "b"), DeployDue(first, "a")]
    await leader.commit(deploys_due=tuple(due))
    in_order = [due[2], due[1], due[0]]
    assert await leader.store.deploys_due(10) == in_order
    assert await leader.store.deploys_due(2) == in_order[:2]
    await leader.store.drop_due(due[1])
    assert await leader.store.deploys_due(10) == [due[2], due[0]]


async def test_each_server_shows_its_live_last_and_waiting_deploys(leader: Leader) -> None:
    web, other = await project_history(leader), await project_history(leader, "other")
    await other.deployed(None)
    live = await web.deployed(await web.build())
    began = await leader.submit(web.deploy(None))
    await leader.queue(began.id)
    await leader.start(began.id, 0)
    waiting = [(await leader.submit(web.deploy(None))).id for _ in range(2)]
    elsewhere = (await leader.submit(web.deploy(None, "staging"))).id
    found = await leader.store.server_states(web.project.id, ["production", "staging", "empty"])
    states = {name: (one.live, one.last, one.waiting) for name, one in found.items()}
    assert states == {
        "production": (live, began.id, tuple(waiting)),
        "staging": (None, None, (elsewhere,)),
        "empty": (None, None, ()),
    }


async def test_a_newer_build_that_is_live_or_being_deployed_is_found(leader: Leader) -> None:
    web = await project_history(leader)
    older, newer, aside = await web.build(), await web.build(), await web.build("other")

    async def seen(of: Submitted, server: str = "production") -> bool:
        return await leader.store.newer_there(web.project.id, server, of.id)

    assert not await seen(older)
    way = await leader.submit(web.deploy(newer, automatic=True))
    assert (await seen(older), await seen(newer)) == (True, False)
    await leader.queue(way.id)
    await leader.start(way.id, 0)
    await leader.finish(way.id, 0)
    assert not await seen(older), "it is neither live nor unfinished"
    await leader.commit(live=(Live(web.project.id, "production", way.id),))
    assert (await seen(older), await seen(newer)) == (True, False)
    assert not await seen(older, server="staging")
    assert not await seen(aside), "it is of another branch"


async def test_a_rebuild_is_as_old_as_its_original(leader: Leader) -> None:
    web = await project_history(leader)
    old, new = await web.build(), await web.build()

    async def again(of: Submitted) -> Submitted:
        return await leader.submit(build(web.project, rebuild_of=of.id))

    await web.deployed(new)
    of_old = await again(await again(old))
    assert await leader.store.newer_there(web.project.id, "production", of_old.id)
    assert await web.is_rollback(web.deploy(of_old))
    of_new = await again(new)
    assert not await leader.store.newer_there(web.project.id, "production", of_new.id)
    assert not await web.is_rollback(web.deploy(of_new))
    await web.deployed(of_old, automatic=False)
    assert not await leader.store.newer_there(web.project.id, "production", new.id)
    assert not await web.is_rollback(web.deploy(new)), "a rebuild of an older one is live"


async def test_a_deploy_of_an_older_build_than_what_is_live_is_a_rollback(leader: Leader) -> None:
    web = await project_history(leader)
    older, live, newer = await web.build(), await web.build(), await web.build()
    assert not await web.is_rollback(web.deploy(older)), "nothing is live"
    await web.deployed(live)
    assert await web.is_rollback(web.deploy(older))
    for new in (
        web.deploy(live),
        web.deploy(newer),
        web.deploy(older, "staging"),
        web.deploy(None),
        build(web.project),
    ):
        assert not await web.is_rollback(new), new


async def test_each_deploy_of_a_group_is_judged_by_its_own_server(leader: Leader) -> None:
    web, app = await project_history(leader), await project_history(leader, "app")
    builds = {one: [await one.build(), await one.build()] for one in (web, app)}
    await web.deployed(builds[web][1])
    await web.deployed(builds[web][0], "staging")
    await app.deployed(builds[app][0])
    group = [
        build(web.project),
        web.deploy(builds[web][0]),
        web.deploy(builds[web][1], "staging"),
        app.deploy(builds[app][0]),
        web.deploy(builds[web][0], automatic=True),
    ]
    *made, automatic = await leader.store.submit(group)
    assert automatic == ProjectChanged()
    ids = [one.id for one in made if isinstance(one, Submitted)]
    marked = [await leader.store.workload(id_) for id_ in ids]
    assert [one and one.rollback for one in marked] == [False, True, False, False]
    assert [one.name for one in await leader.store.pauses()] == ["rollback-production"]


async def test_an_automatic_deploy_is_not_stored_after_one_of_a_newer_build(
    leader: Leader,
) -> None:
    """Also where a person asks for the newer one between the look at the server and the deploy."""
    web = await project_history(leader)
    older, newer = await web.build(), await web.build()
    late = web.deploy(older, automatic=True)
    at_once = await leader.store.submit([web.deploy(newer), late])
    assert [type(one) for one in at_once] == [Submitted, ProjectChanged]
    assert await leader.store.submit([late]) == [ProjectChanged()]
    (made,) = await leader.store.submit([web.deploy(newer, "staging", automatic=True)])
    assert isinstance(made, Submitted)
    (again,) = await leader.store.submit([web.deploy(newer, automatic=True)])
    assert isinstance(again, Submitted), "of the same build it is no step back"


async def test_a_rollback_pauses_the_automatic_deploys_of_its_server(leader: Leader) -> None:
    web = await project_history(leader)
    older = await web.build()
    await web.deployed(await web.build())
    made = await leader.submit(web.deploy(older, submitted_by="ada"))
    assert await leader.store.pauses() == [
        pause(
            "rollback-production", web.project.id, server="production", automatic=True,
            note=f"deploy #{made.number} went back to an older build",
        )
    ]  # fmt: skip
    again = await leader.submit(web.deploy(older))
    (held,) = await leader.store.pauses()
    assert (held.by, str(again.number) in held.note) == ("rollback", True)


async def test_rollbacks_of_two_projects_pause_only_their_own_servers(leader: Leader) -> None:
    paused = []
    for name in ("web", "app"):
        one = await project_history(leader, name)
        older = await one.build()
        await one.deployed(await one.build())
        for _ in range(2):
            await leader.submit(one.deploy(older))
        paused.append(one.project.id)
    found = {one.name: one.project for one in await leader.store.pauses()}
    assert found == {
        "rollback-production": paused[0],
        f"rollback-production-{paused[1]}": paused[1],
    }


async def test_a_rollback_and_later_submissions_need_no_room_for_a_pause(
    db: DatabaseUnderTest, leader: Leader
) -> None:
    web = await project_history(leader)
    older = await web.build()
    await web.deployed(await web.build())
    fill(db, MAX_PAUSES)
    group = [build(web.project), web.deploy(older)]
    made = await leader.store.submit(group)
    assert all(isinstance(one, Submitted) for one in made)
    assert "rollback-production" in {one.name for one in await leader.store.pauses()}
