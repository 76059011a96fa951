"""The servers of a project: what is live where, and what waits."""

from aiohttp import web
from msgspec import Struct

from boxsched.api.http import replies
from boxsched.api.messages import answers
from boxsched.api.messages.answers import WorkloadAnswer
from boxsched.api.resources.pauses import PauseAnswer, shown
from boxsched.api.submitting.known_projects import KnownProjects
from boxsched.model import ServerQueue, WorkloadId
from boxsched.node.node import Node
from boxsched.protocol.shards import Pause


class ServerAnswer(Struct, frozen=True):
    """A server. ``live``: the deploy that passed last; ``last``: the one that began last;
    ``waiting``: those that have not begun; ``paused``: a pause that covers it, or null."""

    name: str
    strategy: str
    branch: str | None
    queue: ServerQueue
    guard: bool
    live: WorkloadAnswer | None
    last: WorkloadAnswer | None
    waiting: tuple[WorkloadAnswer, ...]
    paused: PauseAnswer | None


class ServerList(Struct, frozen=True):
    servers: tuple[ServerAnswer, ...]


class Servers:
    def __init__(self, node: Node, known: KnownProjects) -> None:
        self._store = node.store
        self._known = known

    async def list(self, request: web.Request) -> web.Response:
        """All servers of the project, by name."""
        known = await self._known.fresh(request.match_info["project"])
        names = sorted(known.settings.servers)
        states = await self._store.server_states(known.project.id, names)
        pauses = [p for p in await self._store.pauses() if p.project in (None, known.project.id)]
        rows = []
        for name in names:
            settings, state = known.settings.servers[name], states[name]
            paused = next((p for p in pauses if _covers(p, name)), None)
            waiting = [await self._workload(id_) for id_ in state.waiting]
            rows.append(
                ServerAnswer(
                    name, settings.strategy, settings.branch, settings.queue, settings.guard,
                    await self._workload(state.live), await self._workload(state.last),
                    tuple([one for one in waiting if one is not None]),
                    None if paused is None else shown(paused, _project(paused, known.project.name)),
                )
            )  # fmt: skip
        return replies.json(ServerList(tuple(rows)))

    async def _workload(self, id_: WorkloadId | None) -> WorkloadAnswer | None:
        stored = None if id_ is None else await self._store.workload(id_)
        return None if stored is None else answers.workload(stored)


def _covers(pause: Pause, server: str) -> bool:
    return pause.branch is None and pause.server in (None, server)


def _project(pause: Pause, name: str) -> str | None:
    return None if pause.project is None else name
