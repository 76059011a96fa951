"""Deliveries of code hosts: list them with their results."""

from collections.abc import Mapping

from aiohttp import web
from msgspec import Struct

from boxsched.api.auth.actor import CALLER
from boxsched.api.http import paging, replies
from boxsched.api.http.times import rfc3339
from boxsched.api.messages import checks
from boxsched.api.resources.in_scope import page_in_scope
from boxsched.errors import Invalid
from boxsched.model import WorkloadId, workload_text
from boxsched.node.node import Node
from boxsched.store.delivery_records import DeliveryResult, StoredDelivery

DEFAULT_LIMIT, MAX_LIMIT = 50, 200
_LIST = "deliveries"


class StoredDeliveryAnswer(Struct, frozen=True):
    """A delivery. ``event``: the code host's name for the event.

    ``workloads``: those that it created, canceled or stopped. A duplicate shows those of the first
    delivery. ``numbers``: theirs in the project, in the same order; null for one that is deleted.
    """

    id: str
    provider: str
    event: str
    project: str
    received_at: str
    result: DeliveryResult
    reason: str | None
    workloads: tuple[str, ...]
    numbers: tuple[int | None, ...]


class DeliveryList(Struct, frozen=True):
    deliveries: tuple[StoredDeliveryAnswer, ...]
    next_cursor: str | None


class DeliveryRoutes:
    def __init__(self, node: Node) -> None:
        self._store = node.store

    async def list(self, request: web.Request) -> web.Response:
        """Newest first."""
        query = request.query
        result = _result(query.get("result"))
        limit = paging.limit(query.get("limit"), DEFAULT_LIMIT, MAX_LIMIT)
        before = paging.before(_LIST, query.get("cursor"))
        scope = request[CALLER].scope
        name = query.get("project", scope.only_project())
        organization = scope.organization.id
        project = None
        if name is not None:
            project = await self._store.project_id(checks.plain(name, "project"), organization)
            if project is None:
                return replies.json(DeliveryList((), None))

        async def read(after: int | None) -> tuple[list[StoredDelivery], int | None]:
            found = await self._store.deliveries(
                project,
                result,
                paging.ABOVE_ALL if after is None else after,
                limit + 1,
                organization,
            )
            following = found[limit - 1].id if len(found) > limit else None
            return [one for one in found[:limit] if scope.has_project(one.project)], following

        shown, following = await page_in_scope(scope, read, lambda one: one.id, before, limit)
        cursor = None if following is None else paging.cursor(_LIST, following)
        ids = {id_ for one in shown for id_ in one.workloads}
        numbers = await self._store.workload_numbers(sorted(ids)) if ids else {}
        return replies.json(DeliveryList(tuple([_answer(one, numbers) for one in shown]), cursor))


def _result(text: str | None) -> DeliveryResult | None:
    if text is None:
        return None
    try:
        return DeliveryResult(text)
    except ValueError:
        raise Invalid(f"must be one of {', '.join(DeliveryResult)}", "result") from None


def _answer(one: StoredDelivery, numbers: Mapping[WorkloadId, int]) -> StoredDeliveryAnswer:
    return StoredDeliveryAnswer(
        id=str(one.id),
        provider=one.provider,
        event=one.event,
        project=one.project,
        received_at=rfc3339(one.received_at),
        result=one.result,
        reason=one.reason,
        workloads=tuple([workload_text(id_) for id_ in one.workloads]),
        numbers=tuple([numbers.get(id_) for id_ in one.workloads]),
    )
