"""The servers of a project: what is live on each, and what waits."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aiohttp import web
from msgspec import Raw, Struct, structs

from boxsched.api.auth.actor import CALLER, organization_of
from boxsched.api.http import replies
from boxsched.api.messages import answers
from boxsched.api.messages.answers import JOBS_A_SLICE, WorkloadAnswer
from boxsched.api.messages.requests import ServerSettings
from boxsched.api.resources.pauses import PauseAnswer, shown
from boxsched.api.submitting.known_projects import Known, KnownProjects
from boxsched.api.submitting.new_workloads import too_many
from boxsched.model import ServerQueue, WorkloadId
from boxsched.node.node import Node
from boxsched.protocol.shards import Pause
from boxsched.store.records import ServerState


class ServerAnswer(Struct, frozen=True):
    """A server. ``live``: the last deploy that passed. ``build_number``: its build's.

    ``last``: the last deploy that began. ``waiting``: those that have not begun. ``pauses``: all
    that cover the server, by name; ``paused``: the first of them, or null. ``problem``: why no
    automatic deploy can be made with the present settings, or null.
    """

    name: str
    strategy: str
    branch: str | None
    queue: ServerQueue
    guard: bool
    live: WorkloadAnswer | None
    build_number: int | None
    last: WorkloadAnswer | None
    waiting: tuple[WorkloadAnswer, ...]
    paused: PauseAnswer | None
    pauses: tuple[PauseAnswer, ...]
    problem: str | None


class ServerList(Struct, frozen=True):
    servers: tuple[ServerAnswer, ...]


class ServerRoutes:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._store = node.store
        self._pace = node.pace
        self._known = known

    async def list(self, request: web.Request) -> web.Response:
        """Return all servers of the project, sorted by name."""
        organization = organization_of(request).id
        known = await self._known.fresh(request.match_info["project"], organization)
        names = sorted(filter(request[CALLER].scope.has_server, known.settings.servers))
        states = await self._store.server_states(known.project.id, names)
        found = await self._store.pauses(organization)
        pauses = [p for p in found if p.project in (None, known.project.id)]
        deploys = await self._deploys(states.values())
        builds = {one.build for one in deploys.values() if one.build is not None}
        numbers = await self._store.workload_numbers(sorted(builds)) if builds else {}
        rows = []
        for name in names:
            settings, state = known.settings.servers[name], states[name]
            live, last = deploys.get(state.live), deploys.get(state.last)
            covering = [
                shown(one, _project(one, known.project.name))
                for one in pauses
                if _covers(one, name)
            ]
            row = ServerAnswer(
                name, settings.strategy, settings.branch, settings.queue, settings.guard,
                live=None,
                build_number=None if not live or not live.build else numbers.get(live.build),
                last=None,
                waiting=(),
                paused=covering[0] if covering else None,
                pauses=tuple(covering),
                problem=_problem(known, settings),
            )  # fmt: skip
            encoded = {
                "live": None if live is None else live.answer,
                "last": None if last is None else last.answer,
                "waiting": [deploys[id_].answer for id_ in state.waiting if id_ in deploys],
            }
            rows.append(structs.asdict(row) | encoded)
        return replies.json({"servers": rows})

    async def _deploys(
        self, states: Iterable[ServerState]
    ) -> Mapping[WorkloadId | None, "_Deploy"]:
        """All deploys that are shown, by id; in slices, as they may have many jobs."""
        ids = sorted({id_ for state in states for id_ in _ids(state)})
        deploys: dict[WorkloadId | None, _Deploy] = {}
        load = 0
        async for found in self._store.workloads_in_parts(ids):
            for one in found:
                answer = Raw(replies.encode(answers.workload(one)))
                deploys[one.id] = _Deploy(answer, one.build)
                load += 1 + len(one.jobs)
                if load >= JOBS_A_SLICE:
                    load = 0
                    await self._pace.step()
        return deploys


class _Deploy(NamedTuple):
    """A deploy's answer, encoded, and its build."""

    answer: Raw
    build: WorkloadId | None


def _ids(state: ServerState) -> Iterable[WorkloadId]:
    return [id_ for id_ in (state.live, state.last, *state.waiting) if id_ is not None]


def _problem(known: Known, server: ServerSettings) -> str | None:
    """Return why no automatic deploy to the server can be made."""
    if server.strategy != "automatic":
        return None
    if not server.jobs:  # settings of an earlier version
        return "the server has no jobs in the project's settings"
    boxes = sum(job.parallelism or 1 for job in server.jobs)
    return too_many(boxes, known.project.max_boxes, known.plan)


def _covers(pause: Pause, server: str) -> bool:
    return pause.branch is None and pause.server in (None, server)


def _project(pause: Pause, name: str) -> str | None:
    return None if pause.project is None else name
