"""The events that a caller sees whose token is limited to some projects or servers.

An event names its project, but a server only when its workload is registered. So the server of a
deploy is remembered, or read from the store.
"""

from collections import OrderedDict

import msgspec

from boxsched.api.auth.scope import Scope
from boxsched.model import Kind, WorkloadId, job_workload, parse_job, parse_workload
from boxsched.protocol.batches import StoredEvent
from boxsched.store.store import Store

REMEMBERED_AT_MOST = 1_000  # workloads, for one reader

# Events of what all projects share, and of no workload. All others must name what they concern.
SHARED = ("worker.", "boxes.", "pause.")


class _Concerns(msgspec.Struct):
    """The parts of an event's data that say what it concerns."""

    project: str | None = None
    server: str | None = None
    kind: str | None = None
    workload: str | None = None
    job: str | None = None


_data = msgspec.json.Decoder(_Concerns)


class EventsInScope:
    """Decides for one reader, event by event."""

    def __init__(self, store: Store, scope: Scope) -> None:
        self._store = store
        self._scope = scope
        self._known: OrderedDict[WorkloadId, bool] = OrderedDict()

    async def includes(self, event: StoredEvent) -> bool:
        """Whether the reader sees the event."""
        if self._scope.whole:
            return True
        data = _data.decode(event.data)
        if data.project is not None and not self._scope.has_project(data.project):
            return False
        if data.workload is not None:
            return await self._includes(data, parse_workload(data.workload))
        if data.project is not None:
            return self._scope.has(data.project, data.server)
        if data.job is not None:
            job = parse_job(data.job)
            return await self._includes(data, None if job is None else job_workload(job))
        return event.type.startswith(SHARED)

    async def _includes(self, data: _Concerns, id_: WorkloadId | None) -> bool:
        """Whether the workload is in scope. Only deploys have a server."""
        if id_ is None:
            return False
        if data.project is not None and (self._scope.servers is None or data.kind != Kind.DEPLOY):
            return True
        if id_ not in self._known:
            self._known[id_] = await self._look_up(data, id_)
            if len(self._known) > REMEMBERED_AT_MOST:
                self._known.popitem(last=False)
        return self._known[id_]

    async def _look_up(self, data: _Concerns, id_: WorkloadId) -> bool:
        if data.project is not None and data.server is not None:
            return self._scope.has(data.project, data.server)
        found = await self._store.concerns(id_)
        return found is not None and self._scope.has(found.project, found.server)
