"""A database clock that tests set, projects with schedules, and what became of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.automation.schedules import Schedules
from tests.service.running_service import RunningService


class HeldTime:
    """A database clock that the test sets."""

    def __init__(self, text: str) -> None:
        self.set(text)

    def set(self, text: str) -> None:
        self._now = datetime.fromisoformat(text).replace(tzinfo=UTC)

    def move(self, **by: float) -> None:
        self._now += timedelta(**by)

    async def __call__(self) -> float:
        return self._now.timestamp()


def daily(**more: Any) -> dict[str, Any]:
    return {"cron": "0 12 * * *", "branch": "main", **more}


async def project(service: RunningService, *schedules: dict[str, Any], **settings: Any) -> None:
    answer = await service.project(schedules=schedules, **settings)
    assert answer.status in (200, 201), answer.body


async def look(service: RunningService) -> None:
    await Schedules(service.node, KnownProjects(service.node.store)).run_once()


async def builds(service: RunningService) -> list[Any]:
    """Return the builds, oldest first."""
    return (await service.get("/workloads?kind=build"))["workloads"][::-1]


async def messages(service: RunningService) -> list[str]:
    return [one["message"] for one in await builds(service)]


async def shown(service: RunningService) -> Any:
    return (await service.get("/projects/web/schedules"))["schedules"]
