"""Change the priority of a waiting workload: ``POST /workloads/{id}/priority``."""

from aiohttp import web

from boxsched.api.auth.actor import ACTOR, organization_of
from boxsched.api.http import bodies, recent, replies
from boxsched.api.messages import answers
from boxsched.api.messages.requests import AskPriority
from boxsched.api.resources.settling import settled
from boxsched.api.submitting import commands, new_workloads
from boxsched.api.submitting.older_nodes import refuse_beside_older
from boxsched.errors import Conflict
from boxsched.model import workload_text
from boxsched.node.node import Node
from boxsched.protocol import inbox
from boxsched.states import State
from boxsched.store.records import Workload

# Looks while an answer waits until the engine has processed the command, which is durable already.

_form = bodies.Form(AskPriority)


class PriorityRoutes:
    def __init__(self, node: Node, seen: recent.RecentAnswers) -> None:
        self._node = node
        self._store = node.store
        self._seen = seen

    async def change(self, request: web.Request) -> web.Response:
        """202 with the workload when the change is durable; 409 once it holds Boxes."""
        body = await bodies.read(request)
        stored = await new_workloads.subject(self._store, request.match_info["workload"])
        key = recent.key_of(request, f"workloads/{workload_text(stored.id)}/priority", body)
        again = self._seen.again(key)
        if again is not None:
            return again
        if key is None or not recent.repeated(await self._store.idempotency(key)):
            asked = _form.read(body)
            _refuse(stored)
            await refuse_beside_older(self._node, "changes of priority")
            said = inbox.Reprioritize(stored.id, asked.priority, request[ACTOR], asked.note)
            await commands.store_command(self._node, said, stored, organization_of(request), key)
            stored = await self._changed(stored, asked.priority)
            if key is None and stored.priority != asked.priority:
                _refuse(stored)
        answer = replies.encode(answers.workload(stored))
        self._seen.keep(key, 202, answer)
        return replies.json_bytes(answer, 202)

    async def _changed(self, stored: Workload, priority: int) -> Workload:
        """Return the workload after the change took effect, or after a short wait."""
        return await settled(
            stored,
            lambda: new_workloads.subject(self._store, workload_text(stored.id)),
            lambda now: now.priority == priority or now.started_at is not None,
        )


def _refuse(stored: Workload) -> None:
    """Raise Conflict if a priority has no effect any more."""
    if stored.state is State.FINISHED:
        raise Conflict(f"it has finished: {stored.result}")
    if stored.started_at is not None:
        raise Conflict("it has its Boxes already: a priority has no effect")
