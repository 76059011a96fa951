"""Submit builds and deploys at a low rate, through the API."""

import asyncio
import random
from collections.abc import Callable, Mapping
from importlib import resources

import attrs
import msgspec

from boxsched import errors
from boxsched.client import Client, Workload
from boxsched.client.records import Settings

PAUSE_SECONDS = (1.5, 5.5)  # between two submissions, at random in this range
ENOUGH_WAITING = 14  # nothing is submitted while this many workloads wait

_BRANCHES: Mapping[str, tuple[str, ...]] = {
    "web-shop": (
        "main",
        "main",
        "feature/faster-search",
        "feature/wish-list",
        "feature/gift-cards",
        "fix/basket-rounding",
        "fix/login-on-safari",
        "release/2.4",
    ),
    "payments": ("main", "feature/instant-refunds", "fix/currency-of-tips"),
    "handbook": ("main", "new-on-call-rota"),
}
_SHARES: Mapping[str, int] = {"web-shop": 6, "payments": 3, "handbook": 1}
_VERBS = ("Speed up", "Simplify", "Mend", "Test", "Document", "Rename", "Cache", "Tidy")
_THINGS = (
    "the search index",
    "rounding of totals",
    "the checkout's last step",
    "retries of refunds",
    "sign-in on phones",
    "the product list",
    "delivery dates",
    "the query behind orders",
)
_AUTHORS = ("Ada", "Grace", "Edsger", "Barbara", "Donald", "Frances")
_HEX = "0123456789abcdef"


def projects() -> list[Settings]:
    """Return the settings of the demo's projects, including their names."""
    text = resources.files("boxsched.demo").joinpath("projects.json").read_bytes()
    return msgspec.json.decode(text, type=list[Settings])


@attrs.frozen
class Traffic:
    """Simulates a team. ``chance`` makes all decisions, so that a seed repeats them."""

    client: Client
    chance: random.Random
    say: Callable[[str], None]

    async def run(self) -> None:
        """Submit until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(self.chance.uniform(*PAUSE_SECONDS))

    async def run_once(self) -> str:
        """Do one random action; return its description."""
        activity = await self.client.activity()
        if len(activity.upcoming) + len(activity.blocked) >= ENOUGH_WAITING:
            return "nothing: enough is waiting"
        doing = self.chance.choices(
            (self._build, self._deploy, self._rebuild, self._stop), weights=(78, 14, 5, 3)
        )[0]
        try:
            did = await doing()
        except (errors.Conflict, errors.NotFound) as error:
            did = f"not done: {error.message}"  # it has finished or was deleted
        self.say(did)
        return did

    async def _build(self) -> str:
        project = self.chance.choices(tuple(_SHARES), weights=tuple(_SHARES.values()))[0]
        build = await self.client.build(
            project,
            branch=self.chance.choice(_BRANCHES[project]),
            commit="".join(self.chance.choices(_HEX, k=40)),
            message=f"{self.chance.choice(_VERBS)} {self.chance.choice(_THINGS)}",
            author=self.chance.choice(_AUTHORS),
        )
        return f"{build.title}: build of {build.branch}, {build.message!r}"

    async def _deploy(self) -> str:
        """Deploy the newest passed build of main; if there is none, build main."""
        project, server = self.chance.choice(
            (("web-shop", "staging"), ("web-shop", "production"), ("payments", "production"))
        )
        passed = await self._newest(project, lambda one: one.passed, branch="main")
        if passed is None:
            return await self._build()
        deploy = await self.client.deploy(project, server, build=passed.id)
        return f"{deploy.title}: deploy of {passed.title} to {server}"

    async def _rebuild(self) -> str:
        failed = await self._newest("web-shop", lambda one: one.finished and not one.passed)
        if failed is None or failed.kind != "build":
            return await self._build()
        rebuilt = await self.client.rebuild(failed.id)
        return f"{rebuilt.title}: {failed.title} again"

    async def _stop(self) -> str:
        running = (await self.client.activity()).running
        builds = [one for one in running if one.kind == "build" and one.branch != "main"]
        if not builds:
            return await self._build()
        stopped = self.chance.choice(builds)
        await self.client.stop(stopped.id)
        return f"{stopped.title}: stopped"

    async def _newest(
        self, project: str, good: Callable[[Workload], bool], branch: str | None = None
    ) -> Workload | None:
        page = await self.client.workloads(project=project, kind="build", branch=branch)
        return next((one for one in page.workloads if good(one)), None)
