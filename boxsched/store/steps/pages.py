"""Pages of workloads: read along the indexes that fit the filter, within limits.

A request reads at most LOOKED_AT_MOST rows, even if few of them match. So a page may be short or
empty although more pages follow; it contains the place to continue from.
"""

from collections.abc import Mapping, Sequence

import msgspec

from boxsched.errors import Invalid
from boxsched.model import Kind, ProjectId, WorkloadId
from boxsched.states import State
from boxsched.store.blocks import Block, Steps, load
from boxsched.store.records import WorkloadFilter, WorkloadPage
from boxsched.store.steps import reads

_SQL = load("pages.sql")

LOOKED_AT_MOST = 10_000  # rows of one request, approximately
WALK_AT_MOST = 2_000  # rows of one statement
WIDENED = 8  # each walk of a request is this many times as long as the previous one
JOBS_AT_MOST = 2_000  # jobs in one page; those of the first workload are always included
_ABOVE_ALL = 1 << 62  # greater than every id

_ids = msgspec.json.Decoder(list[tuple[int]])


def workloads(wanted: WorkloadFilter) -> Steps[WorkloadPage]:
    """Return a page, newest first. Raises Invalid for a cursor of another list."""
    if wanted.result is not None and wanted.state not in (None, State.FINISHED):
        return WorkloadPage((), None)  # only finished workloads have a result
    walks = []
    for name in _walks(wanted):
        walks.append(Walk(_SQL[name], wanted, (yield from _beginning(name, wanted))))
    ids, on = yield from _found([walk for walk in walks if walk.before], wanted.limit)
    if len(ids) > wanted.limit:
        ids, on = ids[: wanted.limit], ids[wanted.limit - 1]
    found = yield from reads.listed(ids, JOBS_AT_MOST)
    return WorkloadPage(tuple(found), on if len(found) == len(ids) else found[-1].id)


def _walks(wanted: WorkloadFilter) -> Sequence[str]:
    """Return all walks that fit the filter; the first one probably reads the fewest rows."""
    of_project = wanted.project is not None
    names = []
    if wanted.branch is not None:
        names.append("walk_branch_of_project" if of_project else "walk_branch")
    if wanted.server is not None:
        names.append("walk_server_of_project" if of_project else "walk_server")
    if wanted.state not in (None, State.FINISHED):
        names.append("walk_unfinished_of_project" if of_project else "walk_unfinished")
    if wanted.kind not in (None, Kind.BUILD):
        names.append("walk_kind")
    if wanted.result is not None:
        names.append("walk_result")
    if of_project:
        names.append("walk_project")
    return names or ("walk_all",)


def _beginning(name: str, wanted: WorkloadFilter) -> Steps[int | None]:
    """Return what a walk continues after: an id, or a number in the project; None if it cannot."""
    if wanted.before is None:
        return _ABOVE_ALL
    if name != "walk_project":
        return wanted.before
    found = yield _SQL["number_of"](id=wanted.before, project=wanted.project)
    if found:
        number: int = found[0][0]
        return number
    if not (yield _SQL["is_there"](id=wanted.before)):
        return (yield from _number_behind(wanted.before, wanted.project))
    if len(_walks(wanted)) == 1:
        raise Invalid("this cursor belongs to another list: use it with the same filters", "cursor")
    return None  # another walk ended there


def _number_behind(id_: WorkloadId, project: ProjectId | None) -> Steps[int]:
    """Return, for a deleted workload, a number that is greater than those of all earlier ones.

    In a project ids grow with numbers, so a binary search is used.
    """
    number, beyond = 0, _ABOVE_ALL
    while beyond - number > 1:
        middle = (number + beyond) // 2
        found = yield _SQL["last_below"](project=project, number=middle)
        if found and found[0][0] >= id_:
            beyond = found[0][1] + 1
        else:
            number = middle
    return number


class Walk:
    "A walk along one index. ``before``: where it continues; ``over``: whether it is at the end."

    def __init__(self, block: Block, wanted: WorkloadFilter, before: int | None) -> None:
        self.before = before
        self.ids: list[WorkloadId] = []
        self.last: WorkloadId | None = None  # the last workload that it has read
        self.looked = 0
        self.over = False
        self._block = block
        self._asked: Mapping[str, object] = {
            "organization": wanted.organization,
            "project": wanted.project,
            "branch": wanted.branch,
            "server": wanted.server,
            "kind": wanted.kind,
            "state": wanted.state,
            "result": wanted.result,
        }

    def on(self, length: int) -> Steps[None]:
        """Read this many rows more."""
        found = yield self._block(**self._asked, before=self.before, looked=length)
        ((id_, number, count, text),) = found
        self.ids += sorted((WorkloadId(one) for (one,) in _ids.decode(text or "[]")), reverse=True)
        self.looked += count
        self.over = count < length
        if count:
            self.before = number if self._block is _SQL["walk_project"] else id_
            self.last = WorkloadId(id_)


def _found(walks: Sequence[Walk], enough: int) -> Steps[tuple[list[WorkloadId], WorkloadId | None]]:
    """Return the found ids, if possible more than enough, and where to continue; None at the end.

    The first walk continues until it has enough, or has read as much as one statement may. Then
    each other walk may reach its end sooner, because all of them find the requested workloads.
    """
    first, *others = walks
    length = enough + 1
    while not (first.over or len(first.ids) > enough or first.looked >= WALK_AT_MOST):
        yield from first.on(length)
        length = min(WIDENED * length, WALK_AT_MOST)
    if not first.over and len(first.ids) <= enough:
        for other in others:
            yield from other.on(WALK_AT_MOST)
            if other.over:
                return other.ids, None
    looked = sum(walk.looked for walk in walks)
    while not (first.over or len(first.ids) > enough or looked >= LOOKED_AT_MOST):
        length = min(WALK_AT_MOST, LOOKED_AT_MOST - looked)
        yield from first.on(length)
        looked += length
    return first.ids, None if first.over else first.last
